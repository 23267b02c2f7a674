"""The one exception that a user's mistake raises."""


class UserError(ValueError):
    """A mistake the caller can mend: the message names the rule, what was received and what to do.

    The command line prints it as `error: ...` and exits with status 2; anything else is a defect of mizoo and keeps
    its traceback.
    """
