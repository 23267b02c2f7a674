"""Published entries: recipe, weights, results and card of each; and recipes without weights. Installed as `mizoo.models`."""
