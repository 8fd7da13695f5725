"""What `sluice export` writes as Parquet is read by pyarrow and says the same as the lines of the same export."""

import json
import sys

import pyarrow as pa
import pyarrow.parquet as parquet

folder, lines_file = sys.argv[1:]
table = parquet.read_table(f"{folder}/events.parquet")
events = [json.loads(line) for line in open(lines_file, encoding="utf-8")]
assert events, "the clients sent events"
assert table.num_rows == len(events), (table.num_rows, len(events))
assert table.schema.field("event").type == pa.string()
assert table.schema.field("time").type == pa.timestamp("ms", tz="UTC")
assert table.schema.field("mp_processing_time_ms").type == pa.int64()


def key(event, time_ms, insert_id):
    return (event, time_ms, insert_id)


rows = table.select(["event", "time", "$insert_id", "distinct_id"]).to_pylist()
found = {key(row["event"], round(row["time"].timestamp() * 1000), row["$insert_id"]): row["distinct_id"] for row in rows}
sent = {key(e["event"], e["properties"]["time"], e["properties"]["$insert_id"]): e["properties"]["distinct_id"] for e in events}
assert found == sent, set(found) ^ set(sent)
profiles = parquet.read_table(f"{folder}/profiles.parquet")
assert profiles.num_rows > 0 and "$distinct_id" in profiles.schema.names
print(f"test result: ok. 1 passed; 0 failed: {table.num_rows} events and {profiles.num_rows} profiles as Parquet")
