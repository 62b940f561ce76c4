"""Which proxy of the environment a URL is asked through: one answer for every client. Loopback is asked directly.

Each library reads these variables by rules of its own, and some refuse a whole client for one value that they cannot
read. So no client reads them: each is given :func:`proxy_for` its URL.
"""

import re
from ipaddress import ip_address, ip_network
from typing import Final
from urllib.parse import SplitResult

from k2_core.errors import SettingsError
from k2_core.loopback import is_loopback
from k2_core.settings import proxy_variables
from k2_core.urls import split_url

_HOST: Final = re.compile(r"[\w.-]+|[0-9a-f:.]+")
_PORTS: Final = {"http": 80, "ws": 80, "https": 443, "wss": 443}
_VARIABLES: Final = {
    "http": ("http_proxy", "all_proxy"),
    "https": ("https_proxy", "all_proxy"),
    "ws": ("ws_proxy", "https_proxy", "http_proxy", "all_proxy"),
    "wss": ("wss_proxy", "https_proxy", "all_proxy"),
}
"""Where the proxy of a scheme is looked for; a WebSocket prefers that of HTTPS, by RFC 6455, section 4.1."""


def proxy_for(url: str) -> str | None:
    """Return the HTTP proxy through which the environment wants a URL to be asked; None for none.

    A SOCKS proxy of ``ALL_PROXY`` is not for WebSockets: these then go directly, as they do without it.

    Raises:
        SettingsError: the variable that holds for this URL cannot be used.
        ValueError: the URL cannot be one.
    """
    parts, found = split_url(url), proxy_variables()
    if is_loopback(parts.hostname) or _is_spared(parts, found.get("no_proxy", "")):
        return None
    for name in _VARIABLES.get(parts.scheme, ()):
        value = found.get(name, "")
        if value and not (name == "all_proxy" and parts.scheme in {"ws", "wss"} and value.lower().startswith("socks")):
            break
    else:
        return None
    url = value if "://" in value else f"http://{value}"  # a host and port alone are a proxy of HTTP
    try:
        proxy = split_url(url)
        plain = proxy.scheme in {"http", "https"} and not (proxy.path.strip("/") or proxy.query or proxy.fragment)
        if plain and _HOST.fullmatch(proxy.hostname or ""):
            return url
    except ValueError:
        pass
    said = value.rpartition("@")[2]  # without its password
    msg = f"{name.upper()}={said} cannot be used: write an HTTP proxy as http://host:port, or unset the variable."
    raise SettingsError(msg)


def _is_spared(parts: SplitResult, spared: str) -> bool:
    """Tell whether ``NO_PROXY`` names a host: itself, a domain of it, its network, or all by an asterisk."""
    host = (parts.hostname or "").rstrip(".")
    port = str(parts.port or _PORTS.get(parts.scheme, 0))
    for entry in spared.lower().replace(",", " ").split():
        # An entry may be a host, a domain with or without its dot or asterisk, an address or a network, and may have a
        # port. A bare IPv6 address has colons, but needs brackets to have a port.
        name, colon, number = entry.rpartition(":")
        with_port = colon and number.isdecimal() and (":" not in name or name.endswith("]"))
        if with_port and number != port:
            continue
        domain = (name if with_port else entry).rpartition("://")[2].removeprefix("*").strip("[].")
        if entry == "*" or (domain and (host == domain or host.endswith(f".{domain}") or _is_within(host, domain))):
            return True
    return False


def _is_within(host: str, network: str) -> bool:
    try:
        return ip_address(host) in ip_network(network.replace("[", "").replace("]", ""), strict=False)
    except ValueError:
        return False
