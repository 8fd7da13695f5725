// npm mixpanel-browser in a real browser, on pages of another origin than the server's. Each test is a visitor of a project of its own, and
// says everything that arrived there.
"use strict";
const assert = require("node:assert/strict");
const path = require("node:path");
const { counted, exported, profiles } = require("./reading.cjs");
const { Stage, sleep, until } = require("./browser_stage.cjs");

const stage = new Stage(process.env.SLUICE_WORK);
const rows = (visitor, more) => exported(visitor.project, stage.server.base, undefined, more);
const tally = (list) => list.reduce((counts, row) => ({ ...counts, [row.event]: (counts[row.event] ?? 0) + 1 }), {});
const numbers = (list) => list.map((row) => row.properties.n).sort((a, b) => a - b);
const upto = (count) => Array.from({ length: count }, (_, n) => n);
const sorted = (object) => JSON.stringify(Object.entries(object).sort());

// Waits until exactly these events are stored, each so often; gives their properties in the order of their times.
async function arrived(visitor, expected) {
  let stored;
  await until(async () => {
    stored = await rows(visitor);
    return { done: sorted(tally(stored)) === sorted(expected), seen: tally(stored) };
  }, `not ${JSON.stringify(expected)}`);
  return stored.map((row) => ({ event: row.event, ...row.properties })).sort((a, b) => a.time - b.time);
}

// Waits until a profile, of a person or of a group of a key, is as it should be.
const profiled = (visitor, is_so, what, group_key) =>
  until(async () => {
    const seen = await profiles(visitor.project, stage.server.base, group_key);
    return { done: is_so(seen), seen };
  }, what);

const sdk_errors = (tab) => tab.evaluate(() => window.sdkErrors);
const retried = (tab) =>
  until(async () => {
    const seen = await sdk_errors(tab);
    return { done: seen.some((text) => text.startsWith("Error; retry")), seen };
  }, "the SDK did not mean to send again");

const TEXT = "Café 中文 🎈 a+b&c=d%20?~~>>ÿ/\\\"'";

const tests = {
  async "session recording: every batch is taken, and the recording goes on"(visitor) {
    const tab = await visitor.open();
    await visitor.init(tab, { record_sessions_percent: 100 });
    const batches = (count) => until(() => ({ done: visitor.to("/record/").length >= count, seen: visitor.to("/record/").length }), `no batch ${count}`);
    // The SDK sends what it recorded every ten seconds.
    await batches(1);
    await until(async () => {
      const seen = await tab.evaluate(() => mixpanel.__get_recorder().activeRecording?.seqNo);
      return { done: seen === 1, seen };
    }, "the first batch was not taken");
    await tab.evaluate(() => (document.querySelector("#top").textContent = "Shop, changed"));
    await until(async () => {
      const seen = await tab.evaluate(() => mixpanel.__get_recorder().activeRecording.batcher.queue.memQueue.length);
      return { done: seen > 0, seen };
    }, "the change was not recorded");
    await tab.evaluate(() => mixpanel.stop_session_recording());
    await batches(2);
    assert.deepEqual(await sdk_errors(tab), [], "nothing was aborted");
    const sent = visitor.to("/record/").map((request) => new URL(request.url()).searchParams);
    assert.deepEqual(sent.map((query) => query.get("seq")), upto(sent.length).map(String));
    assert.equal(new Set(sent.map((query) => query.get("replay_id"))).size, 1);
    for (const request of visitor.to("/record/")) assert.equal((await request.response()).status(), 200);
  },

  async "a batch, in base64 as every other host than the original gets it"(visitor) {
    const tab = await visitor.open();
    await visitor.init(tab, { batch_flush_interval_ms: 1500 });
    await tab.evaluate(async (text) => {
      // Each once the one before is in the storage: many at once wait for its lock too long.
      const track = (properties) => new Promise((resolve) => mixpanel.track("Batched", properties, {}, resolve));
      for (let n = 0; n < 60; n++) await track({ n, text, list: ["a", 1, null], object: { a: [1.5] } });
    }, TEXT);
    const [row] = await arrived(visitor, { Batched: 60 });
    await visitor.drained(tab);
    assert.deepEqual(numbers(await rows(visitor)), upto(60));
    assert.deepEqual([row.text, row.list, row.object], [TEXT, ["a", 1, null], { a: [1.5] }]);
    assert.deepEqual([row.mp_lib, row.$browser, row.distinct_id], ["web", "Chrome", `$device:${row.$device_id}`]);
    assert.ok(row.$insert_id && Math.abs(row.time - Date.now() / 1000) < 60);
    assert.deepEqual([row.token, row.ip], [undefined, undefined], "what is not the event's is not kept");
    assert.ok(visitor.to("/track/").every((request) => /^data=W3s/.test(request.postData())), "base64 of a list");
  },

  async "every other way to send: JSON, one by one, verbose, GET, beacon, image"(visitor) {
    const tab = await visitor.open();
    await visitor.init(tab, { batch_requests: false });
    const answers = await tab.evaluate(async (text) => {
      const track = (name, options = {}) => new Promise((resolve) => mixpanel.track(name, { text }, options, resolve));
      const said = [await track("One")];
      mixpanel.set_config({ api_payload_format: "json" });
      said.push(await track("JSON"));
      mixpanel.set_config({ verbose: true });
      said.push(await track("Verbose"));
      mixpanel.set_config({ verbose: false, api_method: "GET", api_payload_format: "base64" });
      said.push(await track("GET"));
      mixpanel.set_config({ api_method: "POST" });
      said.push(await track("Beacon", { transport: "sendBeacon" }));
      mixpanel.set_config({ api_method: "GET", img: true });
      mixpanel.track("Image", { text });
      return said;
    }, TEXT);
    assert.deepEqual(answers, [1, 1, { error: null, status: 1 }, 1, 1]);
    const stored = await arrived(visitor, { One: 1, JSON: 1, Verbose: 1, GET: 1, Beacon: 1, Image: 1 });
    stored.forEach((row) => assert.equal(row.text, TEXT));
    assert.equal(await tab.evaluate(() => document.querySelector("img").naturalWidth), 1, "the image is one");
  },

  async "the snippet, which loads the library behind the calls"(visitor) {
    const tab = await visitor.open("/snippet");
    await visitor.init(tab);
    await tab.evaluate(() => {
      mixpanel.identify("snippet user");
      mixpanel.people.set({ plan: "pro" });
      mixpanel.track("Queued", { n: 1 });
    });
    const stored = await arrived(visitor, { $identify: 1, Queued: 1 });
    assert.equal(stored.find((row) => row.event === "Queued").distinct_id, "snippet user");
    await profiled(visitor, (seen) => seen["snippet user"]?.plan === "pro", "no profile");
  },

  async "old versions: 2.31 with GET, 2.38 with base64 that is not escaped"(visitor) {
    for (const version of ["2.31", "2.38"]) {
      const tab = await visitor.open(`/with/mixpanel-browser-${version}`);
      await visitor.init(tab);
      await tab.evaluate(([version, text]) => {
        mixpanel.track("Old", { version, text });
        mixpanel.identify(`old ${version}`);
        mixpanel.people.set({ plan: "pro" });
        mixpanel.people.increment("n", 2);
      }, [version, TEXT]);
      await until(async () => {
        const seen = (await rows(visitor)).filter((row) => row.event === "Old").map((row) => row.properties.version);
        return { done: seen.includes(version), seen };
      }, "no event");
      await profiled(visitor, (seen) => seen[`old ${version}`]?.plan === "pro" && seen[`old ${version}`].n === 2, "no profile");
    }
    const stored = await rows(visitor);
    assert.deepEqual(stored.filter((row) => row.event === "Old").map((row) => row.properties.text), [TEXT, TEXT]);
    assert.ok(visitor.to("/track/").some((request) => request.method() === "GET") && visitor.to("/decide/").length >= 2);
    for (const request of visitor.to("/decide/")) assert.equal((await request.response()).status(), 200);
  },

  async "a page that goes away sends a beacon; what its storage sends again counts once"(visitor) {
    const tab = await visitor.open();
    await visitor.init(tab, { batch_flush_interval_ms: 3_600_000 });
    await tab.evaluate(() => [0, 1, 2].forEach((n) => mixpanel.track("Left", { n })));
    await until(async () => {
      const seen = await tab.evaluate(() => JSON.parse(localStorage[Object.keys(localStorage).find((key) => /^__mpq_.*_ev$/.test(key))] ?? "[]").length);
      return { done: seen === 3, seen };
    }, "the storage does not hold the events");
    assert.deepEqual(await rows(visitor), []);
    await tab.goto(`${stage.site.base}/elsewhere`);
    await arrived(visitor, { Left: 3 });
    // The SDK leaves them to the page that has them, until twice its interval has passed.
    await tab.clock.install({ time: Date.now() + 3 * 3_600_000 });
    await tab.goto(`${stage.site.base}/`);
    await visitor.init(tab);
    await visitor.drained(tab);
    await arrived(visitor, { Left: 6 });
    assert.deepEqual(numbers(await rows(visitor, { dedup: 1 })), [0, 1, 2]);
    assert.equal(await counted(visitor.project, stage.server.base, "Left"), 3);
  },

  async "two tabs of one visitor"(visitor) {
    const tabs = [await visitor.open(), await visitor.open()];
    for (const tab of tabs) await visitor.init(tab);
    const track = (from) => tabs[from / 20].evaluate(async (from) => {
      for (let n = from; n < from + 20; n++) await new Promise((resolve) => mixpanel.track("Tabbed", { n }, {}, resolve));
    }, from);
    await Promise.all([track(0), track(20)]);
    await Promise.all(tabs.map((tab) => visitor.drained(tab)));
    const stored = await rows(visitor, { dedup: 1 });
    assert.deepEqual(numbers(stored), upto(40));
    assert.equal(new Set(stored.map((row) => row.properties.$device_id)).size, 1);
  },

  async "identify, alias and reset"(visitor) {
    const tab = await visitor.open();
    await visitor.init(tab);
    const devices = await tab.evaluate(() => {
      const devices = [mixpanel.get_property("$device_id")];
      mixpanel.track("Before");
      mixpanel.identify("u1");
      mixpanel.track("As user");
      mixpanel.alias("u1 too", "u1");
      mixpanel.reset();
      devices.push(mixpanel.get_property("$device_id"));
      mixpanel.track("After reset");
      return devices;
    });
    const stored = await arrived(visitor, { Before: 1, $identify: 2, $create_alias: 1, "As user": 1, "After reset": 1 });
    const row = (name) => stored.find((row) => row.event === name);
    assert.notEqual(devices[0], devices[1]);
    assert.equal(row("Before").$device_id, devices[0]);
    assert.deepEqual([row("As user").distinct_id, row("As user").$user_id, row("As user").$device_id], ["u1", "u1", devices[0]]);
    assert.equal(row("Before").distinct_id, "u1");
    // The SDK identifies by the alias once that was answered, on what is another device by then: so the device is that user's.
    const after = row("After reset");
    assert.deepEqual([after.distinct_id, after.$distinct_id_before_identity, after.$user_id], ["u1 too", `$device:${devices[1]}`, undefined]);
  },

  async "people, every operation"(visitor) {
    const tab = await visitor.open();
    await visitor.init(tab);
    await tab.evaluate(async () => {
      // One behind the other: the SDK keeps no order among calls that wait for its storage.
      const did = (name, ...rest) => new Promise((resolve) => mixpanel.people[name](...rest, resolve));
      mixpanel.people.set({ early: "before identify", plan: "free" });
      mixpanel.identify("p1");
      await did("set", "plan", "pro");
      await did("set_once", { plan: "never", first: "x" });
      await did("increment", "n", 1);
      await did("increment", { n: 4, m: -2 });
      await did("append", "list", "a");
      await did("append", { list: "b" });
      await did("union", "list", ["b", "c"]);
      await did("remove", "list", "a");
      await did("set", { old: 1 });
      await did("unset", "old");
      await did("append", "$transactions", { $amount: 9.5 });
    });
    await visitor.drained(tab);
    const { p1 } = await profiled(visitor, (seen) => seen.p1?.$transactions, "no profile");
    assert.deepEqual([p1.early, p1.plan, p1.first, p1.n, p1.m, p1.list, p1.old], ["before identify", "pro", "x", 5, -2, ["b", "c"], undefined]);
    assert.deepEqual([p1.$transactions, p1.$browser], [[{ $amount: 9.5 }], "Chrome"]);
    await tab.evaluate(() => mixpanel.people.clear_charges());
    await profiled(visitor, (seen) => seen.p1.$transactions?.length === 0, "charges stay");
    await tab.evaluate(() => mixpanel.people.delete_user());
    await profiled(visitor, (seen) => !seen.p1, "the profile stays");
    await arrived(visitor, { $identify: 1 });
  },

  async "groups, every operation"(visitor) {
    const tab = await visitor.open();
    await visitor.init(tab);
    await tab.evaluate(() => {
      mixpanel.identify("g1");
      mixpanel.set_group("company", ["acme", "umbrella"]);
      mixpanel.track("Registered", {});
      mixpanel.track_with_groups("Grouped", { n: 1 }, { company: "acme" });
    });
    await tab.evaluate(async () => {
      const did = (id, name, ...rest) => new Promise((resolve) => mixpanel.get_group("company", id)[name](...rest, resolve));
      await did("acme", "set", { size: 3, old: 1 });
      await did("acme", "set_once", "size", 9);
      await did("acme", "union", "tags", ["x", "y"]);
      await did("acme", "remove", "tags", "x");
      await did("acme", "unset", "old");
      await did("gone", "set", "a", 1);
      await did("gone", "delete");
    });
    const stored = await arrived(visitor, { $identify: 1, Registered: 1, Grouped: 1 });
    assert.deepEqual(["Registered", "Grouped"].map((name) => stored.find((row) => row.event === name).company), [["acme", "umbrella"], "acme"]);
    await visitor.drained(tab);
    await profiled(visitor, (seen) => String(seen.g1?.company) === "acme,umbrella", "the person has no company");
    const groups = await profiled(visitor, (seen) => seen.acme?.tags?.length === 1 && !seen.gone, "no group", "company");
    assert.deepEqual(Object.keys(groups), ["acme"]);
    assert.deepEqual([groups.acme.size, groups.acme.tags, groups.acme.old], [3, ["y"], undefined]);
  },

  async "autocapture: the page, a click, an input, a form, leaving, scrolling, rage"(visitor) {
    const tab = await visitor.open();
    await visitor.init(tab, { autocapture: { page_leave: true, dead_click: false } });
    await tab.click("#buy");
    await tab.fill("#name", "somebody");
    await tab.press("#name", "Tab");
    await tab.evaluate(() => {
      document.querySelector("#form").addEventListener("submit", (event) => event.preventDefault());
      document.querySelector("#form").requestSubmit();
      history.pushState({}, "", "/basket?step=2");
    });
    const stored = await arrived(visitor, { $mp_web_page_view: 2, $mp_click: 1, $mp_input_change: 1, $mp_submit: 1, $mp_page_leave: 1 });
    const click = stored.find((row) => row.event === "$mp_click");
    assert.deepEqual([click.$mp_autocapture, click.$el_id, click.$el_tag_name], [true, "buy", "button"]);
    await tab.evaluate(() => document.querySelector("#end").scrollIntoView());
    await until(async () => {
      const seen = tally(await rows(visitor));
      return { done: seen.$mp_scroll >= 1, seen };
    }, "no scrolling");
    for (let n = 0; n < 4; n++) await tab.evaluate(() => document.querySelector("#buy").click());
    await until(async () => {
      const seen = tally(await rows(visitor));
      return { done: seen.$mp_rage_click === 1 && seen.$mp_click === 5, seen };
    }, "no rage");
  },

  async "feature flags: there are none, and the SDK is content"(visitor) {
    const tab = await visitor.open();
    await visitor.init(tab, { flags: { context: { plan: "pro" } } });
    assert.equal(await tab.evaluate(() => mixpanel.flags.get_variant_value("new shop", "old")), "old");
    assert.deepEqual(await tab.evaluate(() => [mixpanel.flags.are_flags_ready(), mixpanel.flags.is_enabled_sync("new shop", false)]), [true, false]);
    await tab.evaluate(() => (mixpanel.identify("flag user"), mixpanel.flags.load_flags()));
    await tab.evaluate(() => mixpanel.flags.update_context({ plan: "free" }));
    await arrived(visitor, { $identify: 1 });
    assert.equal(visitor.to("/flags/").filter((request) => request.method() === "GET").length, 3);
    for (const request of visitor.to("/flags/")) assert.ok((await request.response()).ok());
  },

  async "remote settings, strict and falling back: they are there, and switch recordings off"(visitor) {
    for (const remote_settings_mode of ["strict", "fallback"]) {
      const tab = await visitor.open();
      await visitor.init(tab, { remote_settings_mode, record_sessions_percent: 100 });
      await tab.evaluate(() => mixpanel.__get_recording_init_promise());
      await tab.evaluate((mode) => mixpanel.track("Settled", { mode }), remote_settings_mode);
      assert.equal(await tab.evaluate(() => mixpanel.get_config("record_sessions_percent")), 0);
    }
    await arrived(visitor, { Settled: 2 });
    assert.equal(visitor.to("/record/").length, 0);
  },

  async "who opts out sends nothing, and who opts in again does"(visitor) {
    const tab = await visitor.open();
    await visitor.init(tab);
    await tab.evaluate(() => (mixpanel.opt_out_tracking(), mixpanel.track("Silent")));
    await sleep(400);
    await tab.evaluate(() => (mixpanel.opt_in_tracking(), mixpanel.track("Heard")));
    await arrived(visitor, { $opt_in: 1, Heard: 1 });
    await visitor.drained(tab);
    visitor.expect(/You are opted out/);
  },

  async "offline and back"(visitor) {
    const tab = await visitor.open();
    await visitor.init(tab);
    await visitor.context.setOffline(true);
    await tab.evaluate(() => [0, 1].forEach((n) => mixpanel.track("Kept", { n })));
    await retried(tab);
    assert.deepEqual(await rows(visitor), []);
    await visitor.context.setOffline(false);
    await arrived(visitor, { Kept: 2 });
    await visitor.drained(tab);
    assert.deepEqual(numbers(await rows(visitor)), [0, 1]);
    visitor.expect(/ERR_INTERNET_DISCONNECTED|retry in|Bad HTTP status: 0/);
  },

  async "a project beyond its quota: the page keeps what is refused, and sends it later"(visitor) {
    stage.server.command(["project", "set", "--project", String(visitor.project.project_id), "--events-per-second-max", "2"]);
    const tab = await visitor.open();
    await visitor.init(tab);
    const track = (from) => tab.evaluate(async (from) => {
      for (let n = from; n < from + 10; n++) await new Promise((resolve) => mixpanel.track("Limited", { n }, {}, resolve));
    }, from);
    await track(0);
    await arrived(visitor, { Limited: 10 });
    await track(10);
    await retried(tab);
    await arrived(visitor, { Limited: 20 });
    await visitor.drained(tab);
    assert.deepEqual(numbers(await rows(visitor)), upto(20));
    visitor.expect(/status of 503|Bad HTTP status: 503|retry in/);
  },

  async "headers of the page's own, which ask first"(visitor) {
    const tab = await visitor.open();
    await visitor.init(tab, { xhr_headers: { "X-Shop": "1", "X-Requested-With": "XMLHttpRequest" } });
    await tab.evaluate(() => mixpanel.track("Asked first"));
    await arrived(visitor, { "Asked first": 1 });
    const [sent] = visitor.to("/track/").filter((request) => request.method() === "POST");
    assert.equal((await sent.allHeaders())["x-shop"], "1");
  },

  async "routes of the page's own: without slashes, with two, behind a prefix that a proxy takes off"(visitor) {
    const tab = await visitor.open();
    await visitor.init(tab, { api_routes: { track: "track", engage: "engage", groups: "groups", record: "record", flags: "flags", settings: "settings" }, flags: true });
    await tab.evaluate(() => mixpanel.flags.get_variant_value("new shop", "old"));
    await tab.evaluate(() => (mixpanel.identify("r1"), mixpanel.people.set("plan", "pro"), mixpanel.track("Routed", { n: 0 })));
    await visitor.drained(tab);
    const again = await visitor.open();
    await visitor.init(again, { api_host: `${stage.server.base}/` });
    await again.evaluate(() => mixpanel.track("Routed", { n: 1 }));
    await visitor.drained(again);
    const proxied = await visitor.open();
    await visitor.init(proxied, { api_host: `${stage.site.base}/mp`, api_hosts: { people: stage.server.base } });
    await proxied.evaluate(() => (mixpanel.identify("r1"), mixpanel.track("Routed", { n: 2 }), mixpanel.people.set("size", 2)));
    const stored = await arrived(visitor, { $identify: 1, Routed: 3 });
    assert.deepEqual(stored.filter((row) => row.event === "Routed").map((row) => row.n).sort(), [0, 1, 2]);
    await profiled(visitor, (seen) => seen.r1?.plan === "pro" && seen.r1.size === 2, "no profile");
  },

  async "a server that is killed behind a proxy, and comes back: no event is lost, none is there twice"(visitor) {
    const tab = await visitor.open();
    await visitor.init(tab, { api_host: `${stage.site.base}/mp` });
    await visitor.tick(tab);
    await until(async () => ((seen) => ({ done: seen >= 5, seen }))((await rows(visitor)).length), "nothing arrives");
    await stage.server.end("SIGKILL");
    await retried(tab);
    await stage.server.start();
    await sleep(200);
    const sent = await visitor.stop_ticking(tab);
    await visitor.drained(tab);
    assert.deepEqual(numbers(await rows(visitor, { dedup: 1 })), upto(sent));
    assert.equal(await counted(visitor.project, stage.server.base, "Ticked"), sent);
    visitor.expect(/status of 502|Bad HTTP status: 502|retry in/);
  },

  async "a server that restarts while its socket is held: the page notices nothing"(visitor) {
    const tab = await visitor.open();
    await stage.server.end("SIGTERM");
    await stage.server.start(["python3", path.join(__dirname, "held_socket.py"), process.env.SLUICE_BIN]);
    await visitor.init(tab);
    await visitor.tick(tab);
    for (let round = 1; round <= 3; round++) {
      await sleep(150);
      await stage.server.restart();
    }
    const sent = await visitor.stop_ticking(tab);
    await visitor.drained(tab);
    assert.deepEqual(numbers(await rows(visitor, { dedup: 1 })), upto(sent));
    assert.deepEqual(await sdk_errors(tab), []);
  },
};

// Tests of one server beside each other; whatever ends it runs alone.
const LANES = 3;
const is_alone = (name) => name.startsWith("a server that");

const PATIENCE_MS = 60_000;

let failed = 0;
async function run(name) {
  const [visitor, began] = [await stage.visitor(name.slice(0, 40)), Date.now()];
  try {
    const late = sleep(PATIENCE_MS).then(() => assert.fail("it takes too long"));
    await Promise.race([tests[name](visitor), late]);
    assert.deepEqual(visitor.problems, [], "something stands in the browser's console");
  } catch (error) {
    failed += 1;
    console.error(`not ok: ${name}\n`, error, visitor.problems);
  }
  if (process.env.TIMES) console.error(`${Date.now() - began} ms ${name}`);
  await visitor.context.close();
}

(async () => {
  const began = Date.now();
  const chosen = Object.keys(tests).filter((name) => name.includes(process.env.ONLY ?? ""));
  try {
    await stage.open();
    const waiting = chosen.filter((name) => !is_alone(name));
    const lane = async () => {
      while (waiting.length > 0) await run(waiting.shift());
    };
    await Promise.all(Array.from({ length: LANES }, lane));
    for (const name of chosen.filter(is_alone)) await run(name);
  } catch (error) {
    failed += 1;
    console.error(error);
  }
  await stage.close();
  console.log(`${chosen.length - failed} passed, ${failed} failed (browser clients, ${Math.round((Date.now() - began) / 1000)} s)`);
  process.exit(failed ? 1 : 0);
})();
