// What the React Native SDK takes from its host, for Node: a platform without native modules, where the SDK works in JavaScript alone; and how
// its modules are read, which name no extensions and import JSON.
import { readFile } from "node:fs/promises";

const HOST = {
  "react-native": 'export const Platform = { OS: "android", Version: 34, constants: {} }; export const NativeModules = {};',
  "react-native-get-random-values": "",
};
const text = (source) => `data:text/javascript,${encodeURIComponent(source)}`;

export async function resolve(specifier, context, next) {
  if (specifier in HOST) return { url: text(HOST[specifier]), format: "module", shortCircuit: true };
  return next(specifier, context).catch((error) => (error.code === "ERR_MODULE_NOT_FOUND" ? next(`${specifier}.js`, context) : Promise.reject(error)));
}

export async function load(url, context, next) {
  const is_own = url.includes("/mixpanel-react-native/") && !url.includes("/mixpanel-react-native/node_modules/");
  if (!is_own) return next(url, context);
  const source = await readFile(new URL(url), "utf8");
  return { format: "module", shortCircuit: true, source: url.endsWith(".json") ? `export default ${source}` : source };
}
