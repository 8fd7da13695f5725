// npm mixpanel-react-native in its JavaScript mode, as on Expo, sends; what arrived is read back.
import assert from "node:assert/strict";
import fs from "node:fs";
import { createRequire, register } from "node:module";
import { pathToFileURL } from "node:url";

register("./react_native_host.mjs", import.meta.url);
const require = createRequire(import.meta.url);
const { exported, profiles } = require("./reading.cjs");
const { Mixpanel } = await import(pathToFileURL(require.resolve("mixpanel-react-native")));

const base = process.env.SLUICE_HTTP;
const project = JSON.parse(fs.readFileSync(process.env.SLUICE_PROJECT));
const NAMES = ["rn before", "rn shop", "rn grouped"];

// Waits until a question is answered with something true.
async function until(ask, what) {
  for (let tries = 0; tries < 200; tries++) {
    const seen = await ask();
    if (seen) return seen;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(what);
}

async function check() {
  // The storage outlives the app.
  const kept = new Map();
  const storage = {
    getItem: async (key) => kept.get(key) ?? null,
    setItem: async (key, value) => void kept.set(key, value),
    removeItem: async (key) => void kept.delete(key),
  };
  const client = new Mixpanel(project.token, false, false, storage);
  await client.init(false, { shop: "Café 中文 🎈" }, base);
  const device = await client.getDeviceId();
  client.track("rn before", { n: 0 });
  await client.identify("rn user");
  for (let n = 0; n < 60; n++) client.track("rn shop", { n, text: "a+b&c=d%20?" });
  client.trackWithGroups("rn grouped", { n: 0 }, { company: "rn inc" });
  client.alias("rn alias", "rn user");
  const people = client.getPeople();
  people.set("plan", "pro");
  people.setOnce({ plan: "free", first: "x" });
  people.increment("n", 3);
  people.append("list", "a");
  people.union("list", ["a", "b"]);
  people.remove("list", "a");
  people.set("old", 1);
  people.unset("old");
  people.trackCharge(9.5);
  const group = client.getGroup("company", "rn inc");
  group.set("size", 3);
  group.setOnce("size", 9);
  group.union("tags", ["x", "y"]);
  group.remove("tags", "x");
  await new Promise((resolve) => setTimeout(resolve, 200));
  client.flush();
  const rows = await until(async () => {
    const seen = await exported(project, base, NAMES);
    return seen.length >= 62 && seen;
  }, "the events did not arrive");
  const of = (name) => rows.filter((row) => row.event === name).map((row) => row.properties);
  assert.deepEqual(of("rn shop").map((row) => row.n).sort((a, b) => a - b), Array.from({ length: 60 }, (_, n) => n));
  for (const row of of("rn shop")) {
    assert.deepEqual([row.shop, row.text, row.distinct_id, row.$user_id, row.$device_id], ["Café 中文 🎈", "a+b&c=d%20?", "rn user", "rn user", device]);
    assert.deepEqual([row.mp_lib, row.$mp_metadata, typeof row.$insert_id], ["react-native", undefined, "string"]);
  }
  assert.deepEqual([of("rn before")[0].$device_id, of("rn grouped")[0].company], [device, "rn inc"]);
  const person = await until(async () => {
    const seen = (await profiles(project, base))["rn user"];
    return seen?.$transactions && seen;
  }, "the profile did not arrive");
  assert.deepEqual([person.plan, person.first, person.n, person.list, person.old, person.$transactions[0].$amount], ["pro", "x", 3, ["b"], undefined, 9.5]);
  const company = await until(async () => (await profiles(project, base, "company"))["rn inc"], "the group did not arrive");
  assert.deepEqual([company.size, company.tags], [3, ["y"]]);
}

let failed = 0;
await check().catch((error) => {
  failed = 1;
  console.error(error);
});
console.log(`${1 - failed} passed, ${failed} failed (React Native client)`);
process.exit(failed);
