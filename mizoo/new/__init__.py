"""A folder of pictures and this machine -> a recipe that fits both: what `mizoo new` does."""

from mizoo.new.choose import Cost, Plan, Wishes, choose, refuse
from mizoo.new.run import NewRecipe, new
from mizoo.new.survey import Survey, survey

__all__ = ["Cost", "NewRecipe", "Plan", "Survey", "Wishes", "choose", "new", "refuse", "survey"]
