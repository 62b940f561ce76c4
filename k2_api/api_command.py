"""``k2 api``: serve the API until SIGTERM or Ctrl-C."""

import click


@click.command(hidden=True)
def api() -> None:
    """Serve the REST API on K2_API__HOST and K2_PORTS__API."""
    import uvicorn

    from k2_api.app import create_app
    from k2_core.lake.catalog import require_lake
    from k2_core.logs import configure
    from k2_core.settings import load_settings

    settings = load_settings()
    require_lake(settings)
    configure("api")
    uvicorn.run(
        create_app(settings),
        host=settings.api.host,
        port=settings.ports.api,
        log_config=None,  # structlog writes the log, and the middleware a line for each request
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
    )
