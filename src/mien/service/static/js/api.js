// The service, one function for each thing that the page asks of it. Everything fails with a Problem: one sentence.
import { state, t } from './state.js';

export class Problem extends Error {
  constructor(sentence, status = 0, retryAfter = null) {
    super(sentence);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

const at = (path, query = {}) => {
  const url = new URL(path, document.baseURI);
  url.hash = '';
  for (const [name, value] of Object.entries(query)) if (value !== undefined && value !== null && value !== '') url.searchParams.set(name, value);
  return url;
};
const within = (query = {}) => ({ ...query, collection: state.collection === 'default' ? undefined : state.collection });

export function headers(more = {}) {
  return { ...(state.key ? { Authorization: `Bearer ${state.key}` } : {}), 'X-Mien': '1', ...more };
}
const uuid = () => crypto.randomUUID?.() ?? [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, '0')).join('');

/** Send a request and return its Response; a refusal becomes a Problem. */
export async function send(method, path, { query, json, body, type, signal, more } = {}) {
  const sent = headers(more);
  if (json !== undefined) { body = JSON.stringify(json); type = 'application/json'; }
  if (type) sent['Content-Type'] = type;
  if (method !== 'GET') sent['Idempotency-Key'] = uuid();
  let response;
  try {
    response = await fetch(at(path, query), { method, headers: sent, body, signal, redirect: 'error' });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new Problem(t('error.unreachable'));
  }
  if (response.ok) return response;
  let sentence = null;
  try { const said = await response.json(); sentence = typeof said.detail === 'string' ? said.detail : said.title; } catch { /* no problem document */ }
  if (response.status === 401) sentence = t(state.key || more?.Authorization ? 'error.key' : 'error.no_key');
  throw new Problem(sentence || t('error.status', { status: response.status }), response.status, Number(response.headers.get('Retry-After')) || null);
}
const got = async (...request) => { const response = await send(...request); return response.status === 204 ? null : response.json(); };
const read = (path, query, signal) => got('GET', path, { query: within(query), signal });

const form = (fields) => {
  const data = new FormData();
  for (const [name, value] of fields) data.append(name, value, value instanceof Blob ? value.name || 'picture.jpg' : undefined);
  return data;
};
const form1 = (picture) => form([['picture', picture]]);

export const session = () => got('GET', 'v1/session');
/** Try a key before it is used: a service does not like to be asked often with a wrong one. */
export async function tryKey(key) {
  const said = await got('GET', 'v1/session', { more: key ? { Authorization: `Bearer ${key}` } : {} });
  if (key && !said.key) throw new Problem(t('error.key'), 401);
  return said;
}
export const models = () => got('GET', 'v1/models');

/** One picture, named. */
export async function identify(picture, { top = 3, signal, rule = state.rule } = {}) {
  // Somebody may drop a picture before the page has heard what the service can.
  const can = state.session ?? await session();
  const said = await got('POST', 'v1/identify', { query: within({ top, expression: can.expression ? true : undefined, ...rule }), body: form1(picture), signal });
  const page = said.pictures[0];
  if (page.error) throw new Problem(page.error, 422);
  return { ...said, picture: page };
}
export const verify = (a, b, rule, signal) => got('POST', 'v1/verify', { query: within(rule), body: form([['a', a], ['b', b]]), signal });
export const search = (picture) => got('POST', 'v1/search', { query: within({ k: 24, subjects: true }), body: form1(picture) });

// People
export const subjects = (query, signal) => read('v1/subjects', query, signal);
export const samples = (id) => read(`v1/subjects/${id}/samples`);
export const enrol = (name, pictures, query = {}) => got('POST', 'v1/subjects', { query: within({ name, ...query }), body: form(pictures.map((file) => ['picture', file])) });
export const addSamples = (id, pictures, query = {}) => got('POST', `v1/subjects/${id}/samples`, { query: within(query), body: form(pictures.map((file) => ['picture', file])) });
export const change = (id, json) => got('PATCH', `v1/subjects/${id}`, { query: within(), json });
export const merge = (id, other) => got('POST', `v1/subjects/${id}/merge`, { query: within(), json: { other } });
export const split = (json) => got('POST', 'v1/subjects/split', { query: within(), json });
export const erase = (id) => got('DELETE', `v1/subjects/${id}`, { query: within() });
export const eraseSample = (id) => got('DELETE', `v1/samples/${id}`, { query: within() });
export const findings = (query) => read('v1/findings', query);
export const points = () => read('v1/operating-points');
export const calibrate = (fmr) => got('POST', 'v1/operating-points', { query: within(), json: { fmr } });
export async function exported(id) { return (await send('GET', `v1/subjects/${id}/export`, { query: within() })).blob(); }

// Collections, keys, log
export const collections = () => got('GET', 'v1/collections');
export const newCollection = (name) => got('POST', 'v1/collections', { json: { name } });
export const dropCollection = (name) => got('DELETE', `v1/collections/${encodeURIComponent(name)}`);
export const changeCollection = (name, json) => got('PATCH', `v1/collections/${encodeURIComponent(name)}`, { json });
export const audit = () => got('GET', 'v1/audit', { query: { limit: 40 } });

// Generated faces
export const generators = () => got('GET', 'v1/generators');
export const generate = (json, signal) => got('POST', 'v1/generate', { json, signal });
export const encode = (picture, model) => got('POST', 'v1/encode', { query: { model }, body: form1(picture) });
export const between = (query, pictures) => got('POST', 'v1/between', { query, body: pictures ? form([['a', pictures[0]], ['b', pictures[1]]]) : undefined });
export const edit = (picture, query) => got('POST', 'v1/edit', { query, body: form1(picture) });
export const anonymize = (picture, query) => got('POST', 'v1/anonymize', { query: within(query), body: form1(picture) });

// Jobs
export const jobs = () => read('v1/jobs');
export const job = (id) => read(`v1/jobs/${id}`);
export const newJob = (archive, query) => got('POST', 'v1/jobs', { query: within({ kind: 'enrol', ...query }), body: archive, type: 'application/zip' });
export const group = (archive, query) => got('POST', 'v1/group', { query: within(query), body: archive, type: 'application/zip' });
export const items = (id, after) => read(`v1/jobs/${id}/items`, { after, limit: 200 });
export const result = (id) => read(`v1/jobs/${id}/result`);
export const endJob = (id) => got('DELETE', `v1/jobs/${id}`, { query: within() });
export const namePerson = (id, person, name) => got('POST', `v1/jobs/${id}/people/${person}`, { query: within(), json: { name } });

/** Read a job's events until it ends: on.progress(job), on.item(item). Goes on by itself after a broken line. */
export async function follow(id, on, signal) {
  let last = null;
  let fails = 0;
  while (!signal.aborted) {
    try {
      const response = await send('GET', `v1/jobs/${id}/events`, { query: within(), signal, more: last === null ? {} : { 'Last-Event-ID': last } });
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = '';
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        fails = 0;
        text += value;
        const parts = text.split('\n\n');
        text = parts.pop();
        for (const part of parts) {
          const event = {};
          for (const line of part.split('\n')) { const cut = line.indexOf(':'); if (cut > 0) event[line.slice(0, cut)] = line.slice(cut + 1).trimStart(); }
          if (event.id) last = event.id;
          if (!event.data) continue;
          const data = JSON.parse(event.data);
          if (event.event === 'item') on.item?.(data); else on.progress?.(data);
          if (event.event === 'end') return data;
        }
      }
    } catch (error) {
      if (signal.aborted || error.name === 'AbortError') return null;
      if (error.status >= 400 && error.status < 500 && error.status !== 429) throw error;
    }
    if (++fails > 20) throw new Problem(t('error.unreachable'));
    await new Promise((resolve) => setTimeout(resolve, Math.min(5000, 300 * 2 ** fails)));
  }
  return null;
}

/** The address at which a picture of the service can be shown: its own, or a blob where a key has to be sent along. */
const blobs = new Map();
export async function shown(path, whole = true) {
  const url = at(path, whole ? within() : {});
  if (!state.key) return url.href;
  const name = `${state.key} ${url.href}`;
  if (!blobs.has(name)) {
    blobs.set(name, fetch(url, { headers: headers() }).then(async (response) => response.ok ? URL.createObjectURL(await response.blob()) : null).catch(() => null));
    if (blobs.size > 400) { const [oldest, promise] = blobs.entries().next().value; blobs.delete(oldest); promise.then((old) => old && URL.revokeObjectURL(old)); }
  }
  return blobs.get(name);
}
export const cropPath = (sample) => `v1/samples/${sample}/crop`;
export const address = (path, query) => at(path, query).href;
