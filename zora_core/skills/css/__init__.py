"""Style sheets: their rules, selectors, conditions and values, as CSS defines them."""
