// Whatever a token holds, an example stays what it is: no value ends its literal, its element or its word of a shell.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { inHtml, literal, reading, sending, shell, single, withoutTemplate } from './snippets';

const HOSTILE = [`a"b`, `a'b`, 'a\\b', '</script><script>alert(1)//', '$(touch x)', '`id`', '${x}', '#{x}', "';--", '*', '!x', 'plain'];

describe('literals', () => {
  it('hold the value and nothing but it', () => {
    for (const value of HOSTILE) {
      expect(JSON.parse(literal(value))).toBe(value);
      expect(JSON.parse(inHtml(value))).toBe(value);
      expect(inHtml(value)).not.toContain('<');
      expect(execFileSync('sh', ['-c', `printf %s ${shell(value)}`], { encoding: 'utf8' })).toBe(value);
      expect(single(value).slice(1, -1)).not.toMatch(/(^|[^\\])(\\\\)*'/);
      expect(withoutTemplate(value)).not.toMatch(/(^|[^\\])\$/);
    }
  });
});

describe('sending', () => {
  it('names the token and this server in every example, with a name of its own', () => {
    for (const origin of ['https://sluice.example.com', 'http://127.0.0.1:8080']) {
      const snippets = sending({ origin, token: 'f00d' });
      expect(new Set(snippets.map((snippet) => snippet.id)).size).toBe(snippets.length);
      for (const snippet of snippets) {
        expect(snippet.text, snippet.id).toContain('f00d');
        expect(snippet.text, snippet.id).toContain(new URL(origin).host);
      }
    }
  });

  it('loads the browser SDK from here', () => {
    const text = sending({ origin: 'https://s.example', token: 't' })[0]!.text;
    expect(text).toContain('window.MIXPANEL_CUSTOM_LIB_URL = "https://s.example/libs/mixpanel-2-latest.min.js"');
    expect(text).toContain('api_host: "https://s.example"');
  });

  it('says http where the server does', () => {
    const node = sending({ origin: 'http://127.0.0.1:8080', token: 't' }).find((snippet) => snippet.id === 'node')!;
    expect(node.text).toContain('protocol: "http"');
  });
});

describe('reading', () => {
  it('signs as the server reads it: sorted pairs without a mark between them, then the secret', () => {
    const [curl] = reading({ origin: 'https://s.example', apiKey: 'key', day: '2026-11-25' });
    // The example itself, with a `curl` that tells its arguments and a clock that stands.
    const script = `date() { echo 1000; }; curl() { printf '%s\\n' "$@"; }; API_SECRET=secret\n${curl!.text}`;
    const told = execFileSync('bash', ['-c', script], { encoding: 'utf8' });
    const sig = createHash('md5').update('api_key=keyexpire=1600from_date=2026-11-25to_date=2026-11-25secret').digest('hex');
    expect(told).toContain(`sig=${sig}`);
  });
});
