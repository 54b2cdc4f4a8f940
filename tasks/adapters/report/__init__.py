"""Pages and charts for people: the report of a run, the page of hits."""
