"""HTML pages and charts: the report of a run, the page of search hits."""
