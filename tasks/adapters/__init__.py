"""One SDK in each file; its errors become the three leaves of tasks.domain.errors here and only here."""
