// npm mixpanel sends; npm mixpanel-data-export reads, by Basic in its new version and signed in its old one.
"use strict";
const assert = require("node:assert/strict");
const fs = require("node:fs");
const { promisify } = require("node:util");
const Mixpanel = require("mixpanel");
const BasicExport = require("mixpanel-data-export");
const SignedExport = require("mixpanel-data-export-signed");

const base = process.env.SLUICE_HTTP;
const project = JSON.parse(fs.readFileSync(process.env.SLUICE_PROJECT));
const today = new Date().toISOString().slice(0, 10);
const sent = { plain: "text", unicode: "Café 中文 🎈", number: 7, float: 1.5, yes: true, list: ["a", 1], object: { inner: [1] }, symbols: "a+b&c=d%20?~>>" };

// Only the host changes: both libraries have theirs written down.
function reader(Library) {
  const client = new Library({ api_key: project.api_key, api_secret: project.api_secret });
  const original = client._buildRequestURL;
  client._buildRequestURL = function (method, parameters) {
    return original.call(this, method, parameters).replace(/^https?:\/\/[^/]+/, base);
  };
  return client;
}

function sender(options) {
  return Mixpanel.init(project.token, { host: new URL(base).host, protocol: "http", ...options });
}
const https = { host: "localhost:" + process.env.SLUICE_HTTPS_PORT, protocol: "https" };

async function exported(event) {
  const rows = await reader(BasicExport).export({ from_date: "2015-01-01", to_date: today, event: [event] });
  return rows.map((row) => row.properties);
}
const subset = (row) => Object.fromEntries(Object.keys(sent).map((name) => [name, row[name]]));

const tests = {
  async "track over http"() {
    const client = sender();
    await promisify(client.track.bind(client))("node http", { distinct_id: "n1", ...sent });
    const [row] = await exported("node http");
    assert.deepEqual(subset(row), sent);
    assert.equal(row.distinct_id, "n1");
  },
  async "track over https"() {
    const client = sender(https);
    await promisify(client.track.bind(client))("node https", { distinct_id: "n1", ...sent });
    assert.deepEqual(subset((await exported("node https"))[0]), sent);
  },
  async "batch"() {
    const client = sender();
    const list = Array.from({ length: 120 }, (_, n) => ({ event: "node batch", properties: { distinct_id: "b" + n, n, $insert_id: "nb" + n } }));
    await promisify(client.track_batch.bind(client))(list);
    assert.deepEqual((await exported("node batch")).map((row) => row.n).sort((a, b) => a - b), list.map((_, n) => n));
  },
  async "import with the key and with the secret"() {
    const by_key = sender({ key: project.api_key });
    await promisify(by_key.import.bind(by_key))("node import", new Date(1500000000000), { distinct_id: "i", ...sent });
    const by_secret = sender({ ...https, secret: project.api_secret });
    await promisify(by_secret.import.bind(by_secret))("node import", new Date(1500000001000), { distinct_id: "i", ...sent });
    const rows = await exported("node import");
    assert.deepEqual(rows.map((row) => row.time).sort(), [1500000000, 1500000001]);
    rows.forEach((row) => assert.deepEqual(subset(row), sent));
  },
  async "people and groups"() {
    const { people, groups } = sender();
    const call = (target, method, ...rest) => promisify(target[method].bind(target))(...rest);
    await call(people, "set", "np", { plan: "pro", old: 1 });
    await call(people, "set_once", "np", { plan: "free", first: "x" });
    await call(people, "increment", "np", { n: 3 });
    await call(people, "append", "np", { list: "a" });
    await call(people, "union", "np", { list: ["a", "b"] });
    await call(people, "remove", "np", { list: "a" });
    await call(people, "unset", "np", ["old"]);
    await call(people, "track_charge", "np", 9.5);
    await call(people, "set", "gone", { plan: "x" });
    await call(people, "delete_user", "gone");
    await call(groups, "set", "company", "node inc", { size: 3 });
    const answer = await reader(BasicExport).engage({ where: 'properties["first"] == "x" and properties["n"] == 3' });
    assert.equal(answer.total, 1);
    const row = answer.results[0].$properties;
    assert.deepEqual([row.plan, row.n, row.list, row.old, row.$transactions[0].$amount], ["pro", 3, ["b"], undefined, 9.5]);
    assert.equal((await reader(BasicExport).engage({ distinct_id: "gone" })).total, 0);
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
      await client.eventPropertyValues({ event: "node https", name: "plain" }),
      (await client.topEvents({ type: "general", limit: 3 })).type,
    ];
    const untimed = (answers) => answers.map((answer) => (answer.computed_at ? { ...answer, computed_at: "" } : answer));
    const [signed, basic] = [untimed(await ask(reader(SignedExport))), untimed(await ask(reader(BasicExport)))];
    assert.deepEqual(signed, basic);
    assert.deepEqual(basic[0].data.values, { "node import": { "2017-07-14": 2 }, "none here": { "2017-07-14": 0 } });
    assert.deepEqual(basic[1].data.values, { 7: { "2017-07-14": 2 } });
    assert.deepEqual(basic[2].data.values, { text: { "2017-07-14": 1 } });
    assert.deepEqual(basic[3].results, { "2017-07-14": 3 });
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
