"""One file per noun: validate, query, render."""
