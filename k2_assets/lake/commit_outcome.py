"""What became of a commit: the catalog's answer may be lost, or wrong, and is then held against the table."""

from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException
from pyiceberg.table import Transaction


def commit_once(transaction: Transaction) -> bool:
    """Commit what is staged, rows and all, and tell whether it stands; without retry.

    A snapshot's id is chosen by its writer, so that it can be looked for in the table when the answer was lost.
    pyiceberg takes CommitFailedException for proof that nothing was committed, and deletes the manifests at once. A
    connection that repeats a request may say so of a commit that stands, and the table could never be read again: so
    they are deleted only once the table was seen without the snapshot.

    Returns:
        False when the table was reloaded and does not have it.
    """
    producers, transaction._snapshot_producers = transaction._snapshot_producers, []  # noqa: SLF001  # as above
    try:
        transaction.commit_transaction()
    except (CommitFailedException, CommitStateUnknownException) as error:
        if transaction._table.refresh().snapshot_by_id(producers[-1].snapshot_id) is not None:  # noqa: SLF001
            return True
        if isinstance(error, CommitFailedException):
            for producer in producers:
                producer._clean_all_uncommitted()  # noqa: SLF001
        return False
    return True
