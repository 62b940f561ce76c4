"""``k2 maintain``: one round of maintenance from a shell, beside a running platform or without one."""

from functools import partial

import click

from k2_core.errors import K2Error


class TableName(click.ParamType[str]):
    """The name of one of the lake's tables."""

    name = "TABLE"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Refuse a name of no table."""
        from k2_core.lake.tables import all_tables
        from k2_core.venues import VENUES

        names = [spec.name for spec in all_tables(tuple(VENUES))]
        if value not in names:
            self.fail(f"{value!r} is none of {', '.join(names)}", param, ctx)
        return value


@click.command()
@click.argument("tables", nargs=-1, type=TableName())
def maintain(tables: tuple[str, ...]) -> None:
    """Thin history, join small files and remove what is due, once, in TABLES or all of them.

    The platform does this by itself every five minutes. What another process is doing is left alone.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from k2_assets.lake.lake_resource import Lake
    from k2_assets.maintenance.maintain_job import rounds, summary
    from k2_core.lake.catalog import require_lake
    from k2_core.settings import load_settings

    settings = load_settings()
    require_lake(settings)
    todo = list(rounds(Lake(settings), tables))
    console = Console(highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    failed = []
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        bar = progress.add_task("", total=len(todo))

        def show_step(name: str, step: str) -> None:
            progress.update(bar, description=f"{name}: {step}")

        for each in todo:
            name = each.report.table
            progress.update(bar, description=name)
            each.on_step = partial(show_step, name)
            try:
                each.run()
            except (K2Error, OSError) as error:
                failed.append(f"{name}: {error}")
            else:
                progress.console.print(f"{name}: {summary(each.report)}", markup=False, soft_wrap=True)
            progress.advance(bar)
    if failed:
        msg = f"not maintained: {'; '.join(failed)}"
        raise K2Error(msg)
