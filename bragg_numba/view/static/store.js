"use strict";
// Where the page gets what it shows: from a server, or from itself. Names are those of view/gallery.py.

const TYPES = { float32: Float32Array, uint32: Uint32Array, int32: Int32Array, uint16: Uint16Array, uint8: Uint8Array };

/** Undo deflation, then put the bytes of each number together again. */
async function unpack(bytes, type) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const planes = new Uint8Array(await new Response(stream).arrayBuffer());
  const Kind = TYPES[type], size = Kind.BYTES_PER_ELEMENT, n = planes.length / size;
  if (size === 1) return planes;
  const whole = new Uint8Array(planes.length);
  for (let byte = 0; byte < size; byte++) {
    for (let i = 0, at = byte * n, to = byte; i < n; i++, at++, to += size) whole[to] = planes[at];
  }
  return new Kind(whole.buffer);
}

class ServedStore {
  constructor() { this.atOnce = 6; }

  async json(name) { return (await this.ask(name)).json(); }

  async numbers(name, type) { return unpack(await (await this.ask(name)).arrayBuffer(), type); }

  async ask(name) {
    let answer;
    try {
      answer = await fetch(`data/${name}`);
    } catch {
      throw new Error("the server has gone: bragg-numba view --serve starts it again");
    }
    if (!answer.ok) throw new Error(await answer.text());
    return answer;
  }
}

class EmbeddedStore {
  constructor() { this.atOnce = 16; }

  async json(name) { return JSON.parse(await this.text(name)); }

  async numbers(name, type) {
    const text = atob(await this.text(name)), bytes = new Uint8Array(text.length);
    for (let i = 0; i < bytes.length; i++) bytes[i] = text.charCodeAt(i);
    return unpack(bytes, type);
  }

  /** Wait for a part of this very file, which a browser reads from the top. */
  async text(name) {
    for (;;) {
      const element = document.getElementById(`data:${name}`);
      if (element && (element.nextElementSibling || document.readyState !== "loading")) return element.textContent;
      if (document.readyState !== "loading") throw new Error(`this file lacks ${name}`);
      await new Promise(done => setTimeout(done, 30));
    }
  }
}
