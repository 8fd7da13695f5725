// Runs the clients of ./rust, in their old and their new version, and reads back what arrived.
"use strict";
const assert = require("node:assert/strict");
const { spawnSync } = require("node:child_process");
const fs = require("node:fs");
const { exported, profiles } = require("./reading.cjs");

const base = process.env.SLUICE_HTTP;
const project = JSON.parse(fs.readFileSync(process.env.SLUICE_PROJECT));
const env = { ...process.env, SLUICE_TOKEN: project.token, SLUICE_KEY: project.api_key, SLUICE_SECRET: project.api_secret };

async function check() {
  const run = spawnSync(process.argv[2], { env, encoding: "utf8", timeout: 60_000 });
  assert.equal(run.status, 0, run.stderr);
  for (const [name, person, company] of [
    ["rust old", "rust 1", "rust inc 1"],
    ["rust new", "rust 2", "rust inc 2"],
  ]) {
    const rows = (await exported(project, base, [name])).map((row) => row.properties);
    assert.deepEqual(rows.map((row) => row.n).sort((a, b) => a - b), Array.from({ length: 61 }, (_, n) => n), name);
    for (const row of rows) {
      assert.deepEqual([row.text, row.list, row.distinct_id, row.mp_lib], ["Café 中文 🎈 a+b&c=d%20?~~>>", ["a", 1], person, "rust"]);
    }
    const of = (await profiles(project, base))[person];
    assert.deepEqual([of.plan, of.first, of.n, of.list, of.old, of.$transactions[0].$amount], ["pro", "x", 3, ["b"], undefined, 9.5]);
    const group = (await profiles(project, base, "company"))[company];
    assert.deepEqual([group.size, group.tags, group.old], [3, ["y"], undefined]);
  }
  assert.equal((await profiles(project, base)).gone, undefined);
  const imported = (await exported(project, base, ["rust import"])).map((row) => row.properties);
  assert.deepEqual(imported.map((row) => row.n).sort((a, b) => a - b), [0, 1, 2, 10, 11, 12]);
  assert.ok(imported.every((row) => row.time >= 1_500_000_000 && row.time < 1_500_000_020));
  assert.equal((await exported(project, base, ["$create_alias"])).filter((row) => row.properties.mp_lib === "rust").length, 2);
}

check().then(
  () => console.log("1 passed, 0 failed (rust clients, old and new)"),
  (error) => {
    console.error(error);
    console.log("0 passed, 1 failed (rust clients, old and new)");
    process.exit(1);
  },
);
