"""What became of a commit: the catalog's answer may be lost, or wrong, and is then compared with the table."""

from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException
from pyiceberg.table import Transaction


def commit_once(transaction: Transaction) -> bool:
    """Commit what is staged, rows and all, without retry.

    Returns:
        False when the table was reloaded and does not have the snapshot.
    """
    # The writer chooses its snapshot's id, so it can look for it in the table when the answer was lost. pyiceberg takes
    # CommitFailedException for proof that nothing was committed, and deletes the manifests at once. But a connection
    # that repeats a request can fail so although the first one succeeded: without its manifests nobody could read the
    # table again. So pyiceberg gets no producers to clean up after, and they are cleaned up here once the table was
    # seen without the snapshot.
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
