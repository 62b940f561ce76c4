"""The client with which tests ask the parts: one for all, since each new one reads the machine's certificates."""

import httpx

# No connection is kept: the parts that are asked are killed and started again.
http = httpx.Client(trust_env=False, timeout=60, limits=httpx.Limits(max_keepalive_connections=0))
