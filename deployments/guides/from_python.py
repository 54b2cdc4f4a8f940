"""Kitestring from Python: the cells of a notebook, or a script. Run it from the root of the checkout: python deployments/guides/from_python.py

It embeds 24 sentences about kites on this machine, into a Milvus Lite file.
"""

# %% A job is read from a file, or built from the same keys. Single settings may be given over those of the file.
from prefect import flow

from flows.api import Hit, RunResult, make_job, read_job, run, search, status
from tasks.domain.errors import BadInput

job = read_job("deployments/jobs/kites.yaml", shards__rows=12)

# %% Run it: progress is printed, figures come back typed. Again: nothing is encoded twice.
result: RunResult = run(job)
print(f"{result.rows.loaded} rows are searchable, {'verified' if result.verified else 'not verified'}; the report: {result.report}")

# %% Search it.
hits: list[Hit] = search(job, "a kite made of two boxes of cloth", 3)
for hit in hits:
    print(f"{hit.score:.3f}  {hit.id}  {hit.fields['text']}")

# %% What is there, and what a mistake looks like.
print(status(job).shards)
try:
    make_job(corpus="kites", source={"kind": "jsonl", "uri": "deployments/kites.jsonl"}, targt={})
except BadInput as mistake:
    print(mistake)


# %% In a Prefect flow of your own it is a subflow, seen in the UI under it.
@flow
def nightly() -> RunResult:
    """Embed what is new, before something else is done with it."""
    return run(job)


# %% The same where an event loop runs, as in a notebook: `nightly()` needs the server of PREFECT_API_URL, `run(job)` brings its own.
