// The stage of the browser's tests: a server of its own, a site of another origin that carries the SDK's pages, and one Chromium.
"use strict";
const { execFileSync, spawn } = require("node:child_process");
const fs = require("node:fs");
const http = require("node:http");
const path = require("node:path");
const readline = require("node:readline");
const { chromium } = require("playwright-core");

// The files of a version of the SDK.
const dist = (version) => path.join(path.dirname(require.resolve(`${version}/package.json`)), "dist");
const binary = process.env.SLUICE_BIN;
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// Waits until a question is answered with something true; fails with what was there instead.
async function until(ask, what, patience_ms = 15_000) {
  const end = Date.now() + patience_ms;
  for (;;) {
    const { done, seen } = await ask();
    if (done) return seen;
    if (Date.now() > end) throw new Error(`${what}: ${JSON.stringify(seen)}`);
    await sleep(50);
  }
}

// The server that is tested. It finds its port again when it is started once more.
class Server {
  constructor(folder) {
    this.data = path.join(folder, "browser");
    this.address = "127.0.0.1:0";
  }

  // Starts it, by itself or in the hands of something that holds its socket.
  async start(command = [binary]) {
    const [program, ...rest] = command;
    const log = fs.openSync(path.join(path.dirname(this.data), "browser.log"), "a");
    this.child = spawn(program, [...rest, "serve", "--data", this.data, "--listen", this.address], { stdio: ["ignore", "pipe", log] });
    fs.closeSync(log);
    for await (const line of readline.createInterface({ input: this.child.stdout })) {
      const match = /^listening on (http:\/\/(.*))$/.exec(line);
      if (match) {
        [, this.base, this.address] = match;
        break;
      }
    }
    this.child.stdout.resume();
    if (!this.base) throw new Error("the server did not start");
  }

  // Ends it and starts it again, behind a socket that somebody else holds.
  async restart() {
    const started = new Promise((resolve) => readline.createInterface({ input: this.child.stdout }).once("line", resolve));
    this.child.kill("SIGHUP");
    await started;
  }

  async end(signal) {
    const ended = new Promise((resolve) => this.child.once("exit", resolve));
    this.child.kill(signal);
    await ended;
  }

  command(args, input) {
    const env = { ...process.env, SLUICE_DATA: this.data };
    return execFileSync(binary, args, { env, input, encoding: "utf8", stdio: [input ? "pipe" : "ignore", "pipe", "pipe"] });
  }

  project(name) {
    return JSON.parse(this.command(["project", "create", "--owner", "o@example.com", "--name", name, "--json"]));
  }
}

const page = (head) => `<!DOCTYPE html><html><head><meta charset="utf-8"><title>Shop</title><link rel="icon" href="data:,">${head}</head>
<body><h1 id="top">Shop</h1><button id="buy">Buy</button><form id="form"><input id="name" name="name"><input type="submit" id="send"></form>
<a id="away" href="/elsewhere">away</a><div style="height:4000px"></div><p id="end">end</p></body></html>`;

// A website that is not the server's: it carries pages and the SDK, and below /mp a proxy as the SDK's documentation tells to set up.
class Site {
  constructor(server) {
    this.server = server;
    this.http = http.createServer((request, response) => this.answer(request, response));
  }

  async start() {
    await new Promise((resolve) => this.http.listen(0, "localhost", resolve));
    this.base = `http://localhost:${this.http.address().port}`;
  }

  answer(request, response) {
    const [where] = request.url.split("?");
    const html = (text) => response.setHeader("content-type", "text/html").end(text);
    if (where.startsWith("/mp/")) return this.pass(request, response);
    if (where === "/") return html(page('<script src="/mixpanel-browser/mixpanel.umd.js"></script>'));
    if (where.startsWith("/with/")) return html(page(`<script src="/${path.basename(where)}/mixpanel.umd.js"></script>`));
    if (where === "/snippet") {
      const snippet = fs.readFileSync(path.join(dist("mixpanel-browser"), "mixpanel-jslib-snippet.min.js"), "utf8");
      return html(page(`<script>const MIXPANEL_CUSTOM_LIB_URL="/mixpanel-browser/mixpanel.min.js";</script><script>${snippet}</script>`));
    }
    if (where === "/elsewhere") return html('<!DOCTYPE html><title>Elsewhere</title><link rel="icon" href="data:,">');
    const [, version, name] = where.split("/");
    const file = name && path.join(dist(version), name);
    if (!file || !fs.existsSync(file)) return response.writeHead(404).end();
    response.setHeader("content-type", "text/javascript");
    return fs.createReadStream(file).pipe(response);
  }

  // Hands a request on without its prefix; 502 where nobody answers, as a proxy does.
  pass(request, response) {
    const { hostname, port } = new URL(this.server.base);
    const options = { hostname, port, method: request.method, path: request.url.slice("/mp".length), headers: request.headers, agent: false };
    const onward = http.request(options, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    });
    onward.on("error", () => response.writeHead(502).end());
    request.pipe(onward);
  }
}

// One visitor with cookies and storage of their own, and everything that went wrong on their pages.
class Visitor {
  constructor(stage, project, context) {
    Object.assign(this, { stage, project, context, problems: [], requests: [] });
  }

  // Opens a page in a tab. What the SDK or the browser complains about is kept.
  async open(where = "/") {
    const tab = await this.context.newPage();
    tab.on("console", (message) => ["error", "warning"].includes(message.type()) && this.problems.push(`${message.type()}: ${message.text()}`));
    tab.on("pageerror", (error) => this.problems.push(`page: ${error}`));
    tab.on("request", (request) => this.requests.push(request));
    await tab.goto(this.stage.site.base + where);
    return tab;
  }

  // Initializes the SDK as a page does that has another host than the original, and flushes sooner than a person would wait.
  async init(tab, config = {}) {
    const settings = { api_host: this.stage.server.base, batch_flush_interval_ms: 100, debug: true, ...config };
    await tab.evaluate(
      ([token, config]) => {
        window.sdkErrors = [];
        window.mixpanel.init(token, { ...config, error_reporter: (message) => window.sdkErrors.push(String(message)) });
      },
      [this.project.token, settings],
    );
  }

  // Waits until nothing waits in the SDK's queues any more.
  async drained(tab) {
    const queued = () => Object.keys(localStorage).filter((key) => key.startsWith("__mpq_") && !["[]", "null"].includes(localStorage[key]));
    await until(async () => ((seen) => ({ done: seen.length === 0, seen }))(await tab.evaluate(queued)), "queues still hold events");
  }

  // Tracks one event after the other.
  tick(tab) {
    return tab.evaluate(() => {
      window.sent = 0;
      window.ticking = true;
      const tick = () => window.ticking && mixpanel.track("Ticked", { n: window.sent++ }, {}, () => setTimeout(tick, 10));
      tick();
    });
  }

  // Stops that, and says how many there were.
  stop_ticking(tab) {
    return tab.evaluate(() => ((window.ticking = false), window.sent));
  }

  // Problems that belong to what the test does.
  expect(pattern) {
    this.problems = this.problems.filter((text) => !pattern.test(text));
  }

  // Requests to a path of the server so far.
  to(where) {
    return this.requests.filter((request) => new URL(request.url()).pathname.replace(/^\/mp/, "") === where);
  }
}

class Stage {
  constructor(folder) {
    this.server = new Server(folder);
    this.site = new Site(this.server);
  }

  async open() {
    await this.server.start();
    this.server.command(["account", "create", "--email", "o@example.com", "--password-stdin"], "correct horse battery");
    await this.site.start();
    const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
    this.browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"] });
  }

  async visitor(name) {
    return new Visitor(this, this.server.project(name), await this.browser.newContext());
  }

  async close() {
    await this.browser?.close();
    this.site.http.closeAllConnections();
    this.site.http.close();
    if (this.server.child?.exitCode === null) await this.server.end("SIGTERM");
  }
}

module.exports = { Stage, sleep, until };
