// What to paste: each client with the project's own token and this server's address. Values go in as literals of their language, whatever
// characters they have.
import stub from 'mixpanel-browser/dist/mixpanel-jslib-snippet.min.js?raw';

export type Snippet = { id: string; name: string; about?: string; text: string };
export type Target = { origin: string; token: string };

/** A literal of JavaScript, Python, Go, Java, Swift and Dart alike. `$` is no sign of theirs that a token may have unescaped. */
export function literal(text: string): string {
  return JSON.stringify(text);
}
/** A literal inside of a script element: no value ends the element. */
export function inHtml(text: string): string {
  return literal(text).replaceAll('<', '\\u003c');
}
/** A word of a shell. */
export function shell(text: string): string {
  return /^[\w./:=@-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}
/** A literal of PHP or Ruby without interpolation. */
export function single(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
}
/** A literal of Kotlin or Dart, where `$` begins a template. */
export function withoutTemplate(text: string): string {
  return literal(text).replaceAll('$', '\\$');
}

const SDK = '/libs/mixpanel-2-latest.min.js';

/** Clients that send, with the token. */
export function sending({ origin, token }: Target): Snippet[] {
  const url = new URL(origin);
  const isPlain = url.protocol === 'http:';
  const plainOnly = isPlain ? 'This SDK speaks HTTPS only unless it is told each address.' : undefined;
  const python = isPlain
    ? `Consumer(
    events_url=${literal(`${origin}/track`)},
    people_url=${literal(`${origin}/engage`)},
    groups_url=${literal(`${origin}/groups`)},
    import_url=${literal(`${origin}/import`)},
)`
    : `Consumer(api_host=${literal(url.host)})`;
  return [
    {
      id: 'browser',
      name: 'Browser',
      about: 'Put it into the head of your pages. The SDK itself is loaded from this server.',
      text: `<script>
  window.MIXPANEL_CUSTOM_LIB_URL = ${inHtml(origin + SDK)};
</script>
<script>
${stub.trim()}

  mixpanel.init(${inHtml(token)}, { api_host: ${inHtml(origin)}, track_pageview: true, persistence: "localStorage" });
  mixpanel.track("Signed Up", { plan: "pro" });
</script>`,
    },
    {
      id: 'node',
      name: 'Node',
      about: 'npm install mixpanel',
      text: `const Mixpanel = require("mixpanel");

const mixpanel = Mixpanel.init(${literal(token)}, { host: ${literal(url.host)}, protocol: ${literal(url.protocol.slice(0, -1))} });
mixpanel.track("Signed Up", { distinct_id: "user-1", plan: "pro" });
mixpanel.people.set("user-1", { $email: "user-1@example.com" });`,
    },
    {
      id: 'python',
      name: 'Python',
      about: ['pip install mixpanel.', plainOnly].filter(Boolean).join(' '),
      text: `from mixpanel import Consumer, Mixpanel

mp = Mixpanel(${literal(token)}, consumer=${python})
mp.track("user-1", "Signed Up", {"plan": "pro"})
mp.people_set("user-1", {"$email": "user-1@example.com"})`,
    },
    {
      id: 'ios',
      name: 'iOS',
      text: `import Mixpanel

let mixpanel = Mixpanel.initialize(token: ${literal(token)}, trackAutomaticEvents: false, serverURL: ${literal(origin)})
mixpanel.track(event: "Signed Up", properties: ["plan": "pro"])`,
    },
    {
      id: 'android',
      name: 'Android',
      text: `val mixpanel = MixpanelAPI.getInstance(context, ${withoutTemplate(token)}, false)
mixpanel.setServerURL(${withoutTemplate(origin)})
mixpanel.track("Signed Up", JSONObject().put("plan", "pro"))`,
    },
    {
      id: 'flutter',
      name: 'Flutter',
      text: `final mixpanel = await Mixpanel.init(${withoutTemplate(token)}, trackAutomaticEvents: false);
mixpanel.setServerURL(${withoutTemplate(origin)});
mixpanel.track("Signed Up", properties: {"plan": "pro"});`,
    },
    {
      id: 'react-native',
      name: 'React Native',
      text: `import { Mixpanel } from "mixpanel-react-native";

const mixpanel = new Mixpanel(${literal(token)}, false);
await mixpanel.init(false, {}, ${literal(origin)});
mixpanel.track("Signed Up", { plan: "pro" });`,
    },
    {
      id: 'go',
      name: 'Go',
      text: `mp := mixpanel.NewApiClient(${literal(token)}, mixpanel.ProxyApiLocation(${literal(origin)}))
err := mp.Track(ctx, []*mixpanel.Event{mp.NewEvent("Signed Up", "user-1", map[string]any{"plan": "pro"})})`,
    },
    {
      id: 'java',
      name: 'Java',
      text: `MessageBuilder messages = new MessageBuilder(${literal(token)});
ClientDelivery delivery = new ClientDelivery();
delivery.addMessage(messages.event("user-1", "Signed Up", new JSONObject().put("plan", "pro")));
new MixpanelAPI(${literal(`${origin}/track`)}, ${literal(`${origin}/engage`)}).deliver(delivery);`,
    },
    {
      id: 'ruby',
      name: 'Ruby',
      text: `require 'mixpanel-ruby'

consumer = Mixpanel::Consumer.new(${single(`${origin}/track`)}, ${single(`${origin}/engage`)}, ${single(`${origin}/groups`)})
tracker = Mixpanel::Tracker.new(${single(token)}) { |type, message| consumer.send!(type, message) }
tracker.track('user-1', 'Signed Up', 'plan' => 'pro')`,
    },
    {
      id: 'php',
      name: 'PHP',
      text: `$mp = Mixpanel::getInstance(${single(token)}, ['host' => ${single(url.host)}, 'use_ssl' => ${!isPlain}]);
$mp->track('Signed Up', ['distinct_id' => 'user-1', 'plan' => 'pro']);`,
    },
    {
      id: 'http',
      name: 'HTTP',
      text: `curl ${shell(`${origin}/track`)} -H 'content-type: application/json' \\
  -d ${shell(JSON.stringify([{ event: 'Signed Up', properties: { token, distinct_id: 'user-1', plan: 'pro' } }]))}`,
    },
  ];
}

/** Scripts that read, signed with the key; the secret comes from their environment. */
export function reading({ origin, apiKey, day }: { origin: string; apiKey: string; day: string }): Snippet[] {
  const path = `${origin}/api/2.0/export`;
  return [
    {
      id: 'curl',
      name: 'curl',
      text: `# API_SECRET: Project settings, Management. Never share it or send it over email.
api_key=${shell(apiKey)}
expire=$(($(date +%s) + 600))
sig=$(printf %s "api_key=\${api_key}expire=\${expire}from_date=${day}to_date=${day}\${API_SECRET}" | md5sum | cut -d' ' -f1)
curl -G ${shell(path)} --data-urlencode "api_key=$api_key" -d "expire=$expire" -d from_date=${day} -d to_date=${day} -d "sig=$sig"`,
    },
    {
      id: 'python',
      name: 'Python',
      text: `import hashlib, os, time, urllib.parse, urllib.request

params = {
    "api_key": ${literal(apiKey)},
    "expire": str(int(time.time()) + 600),
    "from_date": "${day}",
    "to_date": "${day}",
}
base = "".join(f"{name}={params[name]}" for name in sorted(params))
# API_SECRET: Project settings, Management. Never share it or send it over email.
params["sig"] = hashlib.md5((base + os.environ["API_SECRET"]).encode()).hexdigest()
url = ${literal(path)} + "?" + urllib.parse.urlencode(params)
print(urllib.request.urlopen(url).read().decode())`,
    },
    {
      id: 'javascript',
      name: 'JavaScript',
      text: `import { createHash } from "node:crypto";

const params = {
  api_key: ${literal(apiKey)},
  expire: String(Math.floor(Date.now() / 1000) + 600),
  from_date: "${day}",
  to_date: "${day}",
};
const base = Object.keys(params).sort().map((name) => name + "=" + params[name]).join("");
// API_SECRET: Project settings, Management. Never share it or send it over email.
params.sig = createHash("md5").update(base + process.env.API_SECRET).digest("hex");
const answer = await fetch(${literal(path)} + "?" + new URLSearchParams(params));
console.log(await answer.text());`,
    },
  ];
}
