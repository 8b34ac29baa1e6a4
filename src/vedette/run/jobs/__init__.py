"""Jobs: rules over stored events as work that survives a killed process, and schedules that leave no gap.

A **job** is a rule set over a span of a tenant's events, cut into **parts**: one for each source and day, and one at
the end for correlations. Parts are judged in any order by any number of processes. A part's result is its signals,
appended to topic `signal`, and its contributions to correlations, in a file; then its row says done. Killed anywhere in
between, the part is judged again and gives signals with the same ids, which alerts count once.

Who works on a part holds a lock on a file, which ends with the process however it ends: a job can be resumed at once.

A **schedule** judges each interval of event time once it is over, and keeps how many events each held then. An interval
nobody judged is a gap; so is one that has more events now. Both are judged as jobs, so an event that comes late is
covered, and what was found before is not told again.
"""
