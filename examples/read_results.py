"""Reading a run's results: rates, intervals, comparisons and single tasks, from its results.json.

python examples/read_results.py runs/demo/reports/NAME-HASH/results.json
"""

import sys

from trajtree.report import read_results_json

data = read_results_json(sys.argv[1])
results = data.results
for row in results.rows:
    rate = row.success_rate
    print(f"{data.label(row.name):40} {rate.value:.2f} [{rate.low:.2f}, {rate.high:.2f}], {len(row.tasks)} tasks")
for found in results.comparisons:
    if found.metric == "success":
        size = found.difference
        low_high = f"[{size.low:+.2f}, {size.high:+.2f}]"
        print(f"{found.row} - {found.against}: {size.value:+.2f} {low_high}, p = {found.p_value:.3f}")
primary = next(row for row in results.rows if row.name == results.primary)
failed = [task.task for task in primary.tasks if not task.success]
print(f"{data.label(primary.name)} failed in {len(failed)} tasks, for example {failed[:3]}")
for note in data.notes:
    print(note)
