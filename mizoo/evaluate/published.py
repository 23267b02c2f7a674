"""The rows of the published entries."""

from __future__ import annotations

from mizoo.errors import UserError
from mizoo.evaluate.rows import Row, read_rows
from mizoo.zoo import entries


def entry_rows(name: str) -> list[Row]:
    """The rows of one entry, or of a version of it.

    Raises:
        UserError: for an unknown entry, one without results, or results of weights that are not the published ones.
    """
    pinned = entries.info(name)["files"].get("encoder.keras", {}).get("sha256", "")
    rows = read_rows(entries.locate(f"models/{entries.folder(name)}/results.json"))
    for row in rows:
        weights = row.settings.get("weights")
        if weights is not None and weights != pinned:
            raise UserError(
                f"The rows of {name} were measured on other weights than the published ones. Make them again: "
                f"`{row.command}`"
            )
    return rows
