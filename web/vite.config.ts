// How the page is built, and served while somebody works on it: everything that is not the page goes on to a running server.
import react from '@vitejs/plugin-react';
import { defineConfig } from 'vite';

const server = process.env.SLUICE_URL ?? 'http://127.0.0.1:8080';
const paths = ['/api', '/track', '/engage', '/groups', '/import', '/libs', '/health', '/flags', '/settings', '/decide', '/record'];

export default defineConfig(({ command }) => ({
  // The server has the files of the page below this path, beside the wire's own paths.
  base: command === 'build' ? '/static/' : '/',
  plugins: [react()],
  // The server puts another word here for every document that it sends.
  html: command === 'build' ? { cspNonce: '__NONCE__' } : {},
  // Inlined files would need `data:` in the page's policy.
  build: { assetsInlineLimit: 0, modulePreload: { polyfill: false }, chunkSizeWarningLimit: 800 },
  // The server takes the page for one of its own by the host that it is asked for.
  server: { host: '127.0.0.1', port: 5173, strictPort: true, proxy: Object.fromEntries(paths.map((path) => [path, { target: server, changeOrigin: false }])) },
}));
