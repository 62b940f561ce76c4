"""The instrument register: what venues list, when it held, and how the parsers' judge looks it up."""
