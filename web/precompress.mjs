// Packs every file of the built page with gzip and Brotli: the server sends them as they lie there. The browser SDK of Mixpanel comes along,
// so that a site can load it from here. The document stays as it is: the server writes into it.
import { copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { brotliCompressSync, constants, gzipSync } from 'node:zlib';

const dist = join(import.meta.dirname, 'dist');
const sdk = join(dirname(createRequire(import.meta.url).resolve('mixpanel-browser/package.json')), 'dist/mixpanel.min.js');
mkdirSync(join(dist, 'sdk'), { recursive: true });
copyFileSync(sdk, join(dist, 'sdk/mixpanel.js'));

for (const entry of readdirSync(dist, { recursive: true, withFileTypes: true })) {
  if (!entry.isFile() || entry.name === 'index.html' || /\.(gz|br)$/.test(entry.name)) continue;
  const path = join(entry.parentPath, entry.name);
  const bytes = readFileSync(path);
  writeFileSync(`${path}.gz`, gzipSync(bytes, { level: 9 }));
  writeFileSync(`${path}.br`, brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length } }));
  rmSync(path);
}
