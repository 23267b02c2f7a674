"""Published entries: recipe, weights, results and card of each. Installed as `mizoo.models`."""
