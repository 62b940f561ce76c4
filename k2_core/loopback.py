"""Which addresses are this machine itself, and how libraries that read the environment are kept from proxying them."""

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Final

_HOSTS: Final = ("127.0.0.1", "localhost", "::1")
_SPARING: Final = ("no_proxy", "NO_PROXY")
_SPARING_GRPC: Final = "no_grpc_proxy"  # where it is set, gRPC looks at no other


def is_loopback(host: str | None) -> bool:
    """Tell whether a host is this machine, by its name or its address."""
    name = (host or "").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ip_address(name)
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def sparing_loopback(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what to add to an environment, so that gRPC and others who read it ask loopback through no proxy."""
    spared = next((environment[name] for name in _SPARING if environment.get(name)), "")
    added = dict.fromkeys(_SPARING, spared)
    if environment.get(_SPARING_GRPC):
        added[_SPARING_GRPC] = environment[_SPARING_GRPC]
    for name, listed in added.items():  # without brackets, which some libraries cannot read
        hosts = [host.strip().replace("[", "").replace("]", "") for host in listed.split(",")]
        added[name] = ",".join(dict.fromkeys(host for host in (*hosts, *_HOSTS) if host))
    return added
