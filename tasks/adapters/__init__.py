"""One SDK in each package; here, and only here, its errors become the three leaves of tasks.domain.errors."""
