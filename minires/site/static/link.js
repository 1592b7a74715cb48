// A program in the part of the address behind #, which browsers keep to themselves: a link to a filled-in exercise.
//
//     #example=compare                   an example as it is
//     #example=check-linear&code=...     with a program of one's own (deflated, base64url)

const BASE64 = { "+": "-", "/": "_", "=": "" };
const pipe = async (bytes, transform) => new Uint8Array(await new Response(new Blob([bytes]).stream().pipeThrough(transform)).arrayBuffer());

export async function pack(text) {
  const bytes = await pipe(new TextEncoder().encode(text), new CompressionStream("deflate-raw"));
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join("")).replace(/[+/=]/g, (sign) => BASE64[sign]);
}

export async function unpack(packed) {
  const text = atob(packed.replaceAll("-", "+").replaceAll("_", "/"));
  const bytes = Uint8Array.from(text, (sign) => sign.charCodeAt(0));
  return new TextDecoder("utf-8", { fatal: true }).decode(await pipe(bytes, new DecompressionStream("deflate-raw")));
}

export async function readLink() {
  const fields = new URLSearchParams(location.hash.slice(1));
  const code = fields.get("code");
  return { example: fields.get("example"), code: code === null ? null : await unpack(code) };
}

let writes = 0;

export async function writeLink(example, code) {
  const write = ++writes;
  const fields = new URLSearchParams({ example });
  if (code !== null) fields.set("code", await pack(code));
  if (write !== writes) return location.href; // a later one has overtaken it
  history.replaceState(null, "", `#${fields}`);
  return location.href;
}
