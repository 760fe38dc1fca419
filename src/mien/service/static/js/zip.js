// A zip of files as they are (stored, not squeezed: pictures are), made in the browser from parts, without a copy in memory.
const TABLE = Uint32Array.from({ length: 256 }, (_, n) => { let c = n; for (let k = 0; k < 8; k++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1; return c >>> 0; });
const MOST = 0xffff; // more would need zip64

async function crc32(file) {
  let crc = 0xffffffff;
  const reader = file.stream().getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return (crc ^ 0xffffffff) >>> 0;
    for (const byte of value) crc = TABLE[(crc ^ byte) & 255] ^ (crc >>> 8);
  }
}

function record(signature, fields) {
  const size = 4 + fields.reduce((sum, [bytes]) => sum + bytes, 0);
  const view = new DataView(new ArrayBuffer(size));
  view.setUint32(0, signature, true);
  let at = 4;
  for (const [bytes, value] of fields) { if (bytes === 2) view.setUint16(at, value, true); else view.setUint32(at, value, true); at += bytes; }
  return view.buffer;
}

/** Pack [{file, path}] as one Blob; onFile(number) after each. */
export async function zip(files, onFile) {
  const some = files.slice(0, MOST);
  const parts = [];
  const central = [];
  let at = 0;
  for (const [i, { file, path }] of some.entries()) {
    const name = new TextEncoder().encode(path.replaceAll('\\', '/').replace(/^\/+/, ''));
    const crc = await crc32(file);
    const facts = [[2, 20], [2, 0x800], [2, 0], [2, 0], [2, 0x21], [4, crc], [4, file.size], [4, file.size], [2, name.length], [2, 0]];
    const head = record(0x04034b50, facts);
    parts.push(head, name, file);
    central.push(record(0x02014b50, [[2, 20], ...facts, [2, 0], [2, 0], [2, 0], [4, 0], [4, at]]), name);
    at += head.byteLength + name.length + file.size;
    onFile?.(i + 1);
  }
  const size = central.reduce((sum, part) => sum + part.byteLength, 0);
  const end = record(0x06054b50, [[2, 0], [2, 0], [2, some.length], [2, some.length], [4, size], [4, at], [2, 0]]);
  return new Blob([...parts, ...central, end], { type: 'application/zip' });
}
