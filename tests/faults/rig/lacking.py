class NotRun(Exception):
    """This machine lacks what a run needs. Said in the table, and never taken for passed."""
