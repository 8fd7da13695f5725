// npm mixpanel sends; npm mixpanel-data-export reads, by Basic in its new version and signed in its old one.
"use strict";
const assert = require("node:assert/strict");
const fs = require("node:fs");
const { promisify } = require("node:util");
const Mixpanel = require("mixpanel");
const reading = require("./reading.cjs");
const { BasicExport, SignedExport } = reading;

const base = process.env.SLUICE_HTTP;
const project = JSON.parse(fs.readFileSync(process.env.SLUICE_PROJECT));
const account = JSON.parse(fs.readFileSync(process.env.SLUICE_ACCOUNT));
const sent = { plain: "text", unicode: "Café 中文 🎈", number: 7, float: 1.5, yes: true, list: ["a", 1], object: { inner: [1] }, symbols: "a+b&c=d%20?~>>" };
const reader = (Library) => reading.reader(Library, project, base);
const exported = async (event) => (await reading.exported(project, base, [event])).map((row) => row.properties);

// What the library advises against works, and is tried.
const logger = { ...console, warn: () => {} };
const sender = (options) => Mixpanel.init(project.token, { host: new URL(base).host, protocol: "http", logger, ...options });
const https = { host: "localhost:" + process.env.SLUICE_HTTPS_PORT, protocol: "https" };

// A call of the library as a promise: it keeps what the library answers.
const call = (target, method, ...rest) => promisify(target[method].bind(target))(...rest);
const subset = (row) => Object.fromEntries(Object.keys(sent).map((name) => [name, row[name]]));

const tests = {
  async "track over http and https"() {
    await call(sender(), "track", "node track", { distinct_id: "n1", ...sent });
    await call(sender(https), "track", "node track", { distinct_id: "n1", ...sent });
    const rows = await exported("node track");
    assert.equal(rows.length, 2);
    rows.forEach((row) => assert.deepEqual([subset(row), row.distinct_id, row.mp_lib], [sent, "n1", "node"]));
  },
  async "track with a time: as a date, as seconds, as milliseconds"() {
    const now = Date.now() - 60_000;
    for (const time of [new Date(now), Math.floor(now / 1000), now]) await call(sender(), "track", "node time", { distinct_id: "n1", time });
    assert.deepEqual((await exported("node time")).map((row) => row.time), Array(3).fill(Math.floor(now / 1000)));
  },
  async "batches, a few at a time and all at once"() {
    const list = (name) => Array.from({ length: 120 }, (_, n) => ({ event: name, properties: { distinct_id: "b" + n, n, text: sent.symbols } }));
    await call(sender(), "track_batch", list("node batch"));
    await call(sender(https), "track_batch", list("node batch"), { max_batch_size: 7, max_concurrent_requests: 4 });
    const rows = await exported("node batch");
    assert.deepEqual(rows.map((row) => row.n).sort((a, b) => a - b), Array.from({ length: 240 }, (_, n) => n >> 1));
    rows.forEach((row) => assert.equal(row.text, sent.symbols));
  },
  async "import with the key, with the secret, with a service account"() {
    const credentials = new Mixpanel.ServiceAccountCredentials(account.username, account.secret, String(project.project_id));
    const clients = [sender({ key: project.api_key }), sender({ ...https, secret: project.api_secret }), sender({ ...https, credentials })];
    for (const [n, client] of clients.entries()) {
      const time = 1500000000000 + n * 1000;
      await call(client, "import", "node import", new Date(time), { distinct_id: "i", ...sent });
      const event = { event: "node imports", properties: { distinct_id: "i", time: Math.floor(time / 1000), ...sent } };
      await call(client, "import_batch", [event, event, event]);
    }
    const rows = await exported("node import");
    assert.deepEqual(rows.map((row) => row.time).sort(), [1500000000, 1500000001, 1500000002]);
    const imports = await exported("node imports");
    assert.equal(imports.length, 9);
    [...rows, ...imports].forEach((row) => assert.deepEqual([subset(row), row.$import], [sent, true]));
  },
  async "alias"() {
    await call(sender(), "alias", "original", "node alias");
    const [row] = (await exported("$create_alias")).filter((row) => row.alias === "node alias");
    assert.equal(row.mp_lib, "node");
  },
  async "people, every operation"() {
    const { people } = sender();
    const [quiet, elsewhere] = [{ $ignore_time: true }, { $ip: "0", $ignore_alias: true }];
    await call(people, "set", "np", { plan: "pro", old: 1 });
    await call(people, "set", "np", "one", "value", elsewhere);
    await call(people, "set_once", "np", { plan: "free", first: "x" });
    await call(people, "increment", "np", "n");
    await call(people, "increment", "np", { n: 2 }, quiet);
    await call(people, "append", "np", { list: "a" });
    await call(people, "append", "np", "list", "c");
    await call(people, "union", "np", { list: ["a", "b"] });
    await call(people, "remove", "np", { list: "a" });
    await call(people, "unset", "np", ["old"]);
    await call(people, "track_charge", "np", 9.5, { $time: new Date(1500000000000) });
    await call(people, "set", "np charges", "plan", "x");
    await call(people, "track_charge", "np charges", 1);
    await call(people, "clear_charges", "np charges");
    await call(people, "set", "gone", { plan: "x" });
    await call(people, "delete_user", "gone");
    const answer = await reader(BasicExport).engage({ where: 'properties["one"] == "value" and properties["n"] == 3' });
    assert.equal(answer.total, 1);
    const known = await reading.profiles(project, base);
    const row = known.np;
    assert.deepEqual([row.plan, row.one, row.n, row.list, row.old], ["pro", "value", 3, ["c", "b"], undefined]);
    assert.deepEqual(row.$transactions, [{ $amount: 9.5, $time: "2017-07-14T02:40:00.000Z" }]);
    assert.deepEqual([known["np charges"].$transactions, known.gone], [[], undefined]);
  },
  async "groups, every operation"() {
    const { groups } = sender();
    await call(groups, "set", "company", "node inc", { size: 3, old: 1 });
    await call(groups, "set_once", "company", "node inc", "size", 9);
    await call(groups, "union", "company", "node inc", { tags: ["x", "y"] });
    await call(groups, "remove", "company", "node inc", { tags: "x" });
    await call(groups, "unset", "company", "node inc", "old");
    await call(groups, "set", "company", "node gone", { size: 1 });
    await call(groups, "delete_group", "company", "node gone");
    const known = await reading.profiles(project, base, "company");
    assert.deepEqual([known["node inc"].size, known["node inc"].tags, known["node inc"].old], [3, ["y"], undefined]);
    assert.equal(known["node gone"], undefined);
  },
  async "what the server refuses reaches the callback"() {
    const loud = sender({ verbose: true });
    await assert.rejects(call(loud.people, "set", "", { plan: "x" }), /^Error: Mixpanel Server Error: \$distinct_id, missing or empty$/);
    await assert.rejects(call(sender().people, "set", "", { plan: "x" }), /^Error: Mixpanel Server Error: 0$/);
    await call(loud, "track", "node loud", { distinct_id: "n1" });
    const stranger = sender({ ...https, secret: "no such secret" });
    await assert.rejects(call(stranger, "import", "node stranger", new Date(1500000000000), { distinct_id: "i" }), /Mixpanel Server Error: .*[Ii]nvalid/);
    const answer = await reading.exported(project, base, ["node loud", "node stranger"]);
    assert.deepEqual(answer.map((row) => row.event), ["node loud"]);
  },
  async "signed and Basic reports agree"() {
    const range = { from_date: "2017-07-14", to_date: "2017-07-14" };
    const ask = async (client) => [
      await client.events({ event: ["node import", "none here"], type: "general", unit: "day", ...range }),
      await client.eventProperties({ event: "node import", name: "number", type: "general", unit: "day", ...range }),
      await client.segmentation({ event: "node import", on: 'properties["plain"]', where: '"a" in properties["list"]', type: "unique", unit: "day", ...range }),
      await client.sumSegmentation({ event: "node import", on: 'properties["float"]', unit: "day", ...range }),
      await client.averageSegmentation({ event: "node import", on: 'properties["float"]', unit: "day", ...range }),
      await client.numericSegmentation({ event: "node import", on: 'properties["number"]', unit: "day", ...range }),
      await client.eventNames({ type: "general", limit: 10 }),
      await client.topEventProperties({ event: "node batch", limit: 3 }),
      await client.eventPropertyValues({ event: "node track", name: "plain" }),
      (await client.topEvents({ type: "general", limit: 3 })).type,
    ];
    const untimed = (answers) => answers.map((answer) => (answer.computed_at ? { ...answer, computed_at: "" } : answer));
    const [signed, basic] = [untimed(await ask(reader(SignedExport))), untimed(await ask(reader(BasicExport)))];
    assert.deepEqual(signed, basic);
    assert.deepEqual(basic[0].data.values, { "node import": { "2017-07-14": 3 }, "none here": { "2017-07-14": 0 } });
    assert.deepEqual(basic[1].data.values, { 7: { "2017-07-14": 3 } });
    assert.deepEqual(basic[2].data.values, { text: { "2017-07-14": 1 } });
    assert.deepEqual(basic[3].results, { "2017-07-14": 4.5 });
    assert.deepEqual(basic[8], ["text"]);
  },
  async "a wrong secret reads nothing"() {
    for (const Library of [BasicExport, SignedExport]) {
      const client = reader(Library);
      client.api_secret = "x" + client.api_secret;
      assert.ok((await client.topEvents({ type: "general" })).error, "an error is named");
    }
  },
};

let done = false;
process.on("exit", () => {
  // A client that never calls back leaves nothing to wait for: that is a failure, not an end.
  if (!done) {
    console.log(`0 passed, 1 failed (node clients: "${running}" got no answer)`);
    process.exitCode = 1;
  }
});
let running;
(async () => {
  let failed = 0;
  for (const [name, test] of Object.entries(tests)) {
    running = name;
    try {
      await test();
    } catch (error) {
      failed += 1;
      console.error(`not ok: ${name}\n`, error);
    }
  }
  console.log(`${Object.keys(tests).length - failed} passed, ${failed} failed (node clients)`);
  done = true;
  process.exit(failed ? 1 : 0);
})();
