// The parts that all screens are made of.
import { h, render, Fragment } from '../vendor/preact.mjs';
import { useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState, useId } from '../vendor/hooks.mjs';
import htm from '../vendor/htm.mjs';
import { t, known, toast, quoted, number } from './state.js';
import { shown, cropPath } from './api.js';

export const html = htm.bind(h);
export { render, Fragment, useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState, useId };

// Strokes on a grid of 24, drawn for this page.
const STROKES = {
  scan: 'M4 8V6a2 2 0 0 1 2-2h2M16 4h2a2 2 0 0 1 2 2v2M20 16v2a2 2 0 0 1-2 2h-2M8 20H6a2 2 0 0 1-2-2v-2M9 9.5v.6M15 9.5v.6M9 14.5c1.7 1.6 4.3 1.6 6 0',
  people: 'M9 11.5a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7ZM3 19.5c0-3.3 2.7-5.5 6-5.5s6 2.2 6 5.5M15.5 5.1a3.3 3.3 0 0 1 0 6.2M17.5 14.4c2.1.7 3.5 2.5 3.5 5.1',
  compare: 'M4 6.5A1.5 1.5 0 0 1 5.5 5H9v14H5.5A1.5 1.5 0 0 1 4 17.5ZM15 5h3.5A1.5 1.5 0 0 1 20 6.5v11a1.5 1.5 0 0 1-1.5 1.5H15M12 3v18',
  group: 'M7.5 10.5a3 3 0 1 0 0-6 3 3 0 0 0 0 6ZM16.5 10.5a3 3 0 1 0 0-6 3 3 0 0 0 0 6ZM12 19.5a3 3 0 1 0 0-6 3 3 0 0 0 0 6Z',
  jobs: 'M4 13.5 6.3 6a2 2 0 0 1 1.9-1.4h7.6A2 2 0 0 1 17.7 6L20 13.5V18a1.6 1.6 0 0 1-1.6 1.6H5.6A1.6 1.6 0 0 1 4 18ZM4 13.5h4.5l1.3 2.2h4.4l1.3-2.2H20',
  spark: 'M12 3.5l1.9 5.1a2.5 2.5 0 0 0 1.5 1.5l5.1 1.9-5.1 1.9a2.5 2.5 0 0 0-1.5 1.5L12 20.5l-1.9-5.1a2.5 2.5 0 0 0-1.5-1.5L3.5 12l5.1-1.9a2.5 2.5 0 0 0 1.5-1.5Z',
  gear: 'M5 7h8M18 7h1M5 17h1M11 17h8M15.5 9.3a2.3 2.3 0 1 0 0-4.6 2.3 2.3 0 0 0 0 4.6ZM8.5 19.3a2.3 2.3 0 1 0 0-4.6 2.3 2.3 0 0 0 0 4.6Z',
  camera: 'M4 8.5A1.5 1.5 0 0 1 5.5 7h2.3l1.4-2h5.6l1.4 2h2.3A1.5 1.5 0 0 1 20 8.5v9a1.5 1.5 0 0 1-1.5 1.5h-13A1.5 1.5 0 0 1 4 17.5ZM12 16a3.2 3.2 0 1 0 0-6.4 3.2 3.2 0 0 0 0 6.4Z',
  image: 'M5.5 4.5h13A1.5 1.5 0 0 1 20 6v12a1.5 1.5 0 0 1-1.5 1.5h-13A1.5 1.5 0 0 1 4 18V6a1.5 1.5 0 0 1 1.5-1.5ZM4 16l4.5-4.5 4 4 2.5-2.5 5 5M15 9.5h.01',
  folder: 'M4 7a1.5 1.5 0 0 1 1.5-1.5h4L11.5 8h7A1.5 1.5 0 0 1 20 9.5V17a1.5 1.5 0 0 1-1.5 1.5h-13A1.5 1.5 0 0 1 4 17Z',
  check: 'M5 12.5l4.5 4.5L19 7.5', cross: 'M6.5 6.5l11 11M17.5 6.5l-11 11', plus: 'M12 5.5v13M5.5 12h13', chevron: 'M9.5 6l6 6-6 6',
  search: 'M10.8 17a6.2 6.2 0 1 0 0-12.4 6.2 6.2 0 0 0 0 12.4ZM15.5 15.5 20 20',
  pencil: 'M4.5 19.5l.9-4L15.7 5.2a1.8 1.8 0 0 1 2.5 0l.6.6a1.8 1.8 0 0 1 0 2.5L8.5 18.6ZM14 7l3 3',
  trash: 'M5 7h14M10 7V5h4v2M7 7l.8 11.5a1.2 1.2 0 0 0 1.2 1h6a1.2 1.2 0 0 0 1.2-1L17 7M10.3 10.5v5.5M13.7 10.5v5.5',
  down: 'M12 4.5v10M7.5 10.5 12 15l4.5-4.5M5 19.5h14', up: 'M12 15.5V5M7.5 9.3 12 4.8l4.5 4.5M5 19.5h14',
  merge: 'M6 5c0 5 6 4.5 6 9.5V20M18 5c0 5-6 4.5-6 9.5M9.5 17.5 12 20l2.5-2.5', split: 'M12 20v-5c0-5-6-4-6-9.5M12 15c0-5 6-4 6-9.5M3.8 7.7 6 5.5l2.2 2.2M15.8 7.7 18 5.5l2.2 2.2',
  copy: 'M9 9.5A1.5 1.5 0 0 1 10.5 8h7A1.5 1.5 0 0 1 19 9.5v9a1.5 1.5 0 0 1-1.5 1.5h-7A1.5 1.5 0 0 1 9 18.5ZM15 8V5.5A1.5 1.5 0 0 0 13.5 4h-7A1.5 1.5 0 0 0 5 5.5v9A1.5 1.5 0 0 0 6.5 16H9',
  undo: 'M8.5 5 4.5 9l4 4M4.5 9H14a5.5 5.5 0 0 1 0 11h-3', alert: 'M12 4 2.8 19.5h18.4ZM12 10v4.5M12 17v.1', info: 'M12 20.5a8.5 8.5 0 1 0 0-17 8.5 8.5 0 0 0 0 17ZM12 11.5V16M12 8v.1',
  more: 'M5 12h.01M12 12h.01M19 12h.01', sun: 'M12 16a4 4 0 1 0 0-8 4 4 0 0 0 0 8ZM12 3v1.5M12 19.5V21M3 12h1.5M19.5 12H21M5.6 5.6l1.1 1.1M17.3 17.3l1.1 1.1M5.6 18.4l1.1-1.1M17.3 6.7l1.1-1.1',
  moon: 'M19.5 14.5A8 8 0 0 1 9.5 4.5a8 8 0 1 0 10 10Z', screen: 'M5 5h14a1 1 0 0 1 1 1v9a1 1 0 0 1-1 1H5a1 1 0 0 1-1-1V6a1 1 0 0 1 1-1ZM9 19.5h6M12 16v3.5',
  dice: 'M6.5 4.5h11a2 2 0 0 1 2 2v11a2 2 0 0 1-2 2h-11a2 2 0 0 1-2-2v-11a2 2 0 0 1 2-2ZM8.7 8.7h.01M15.3 8.7h.01M12 12h.01M8.7 15.3h.01M15.3 15.3h.01',
  shield: 'M12 3.5 5 6.2v5.3c0 4.3 2.9 7.4 7 9 4.1-1.6 7-4.7 7-9V6.2ZM9 12l2.2 2.2L15.2 10',
};

export const Icon = ({ name }) => html`<svg class="icon" viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="1.7" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true"><path d=${STROKES[name]} /></svg>`;

export const Brand = () => html`<svg viewBox="0 0 32 32" aria-hidden="true"><rect width="32" height="32" rx="9" /><circle cx="10.5" cy="11.5" r="2.6" /><circle cx="21.5" cy="11.5" r="2.6" /><circle cx="16" cy="16.6" r="1.7" opacity=".7" /><circle cx="11.5" cy="21.6" r="1.9" /><circle cx="20.5" cy="21.6" r="1.9" /></svg>`;

export function Btn({ icon, kind = '', busy, children, label, ...rest }) {
  return html`<button type="button" class=${`btn ${kind}`} disabled=${busy || rest.disabled} aria-label=${label} title=${label} aria-busy=${busy ? 'true' : undefined} ...${rest}>
    ${busy ? html`<span class="spin"></span>` : icon && html`<${Icon} name=${icon} />`}${children}</button>`;
}

export const Head = ({ title, children, actions }) => html`<header class="page-head"><div><h1 tabindex="-1">${title}</h1>${children && html`<p>${children}</p>`}</div>${actions && html`<div class="row">${actions}</div>`}</header>`;

export const Notice = ({ kind = '', icon, children, action }) => html`<div class=${`notice ${kind}`} role=${kind === 'bad' ? 'alert' : 'status'}><${Icon} name=${icon || (kind === 'good' ? 'check' : kind ? 'alert' : 'info')} /><p>${children}</p>${action}</div>`;
export const Failure = ({ error, again }) => error && html`<${Notice} kind="bad" action=${again && html`<${Btn} kind="slim" onClick=${again}>${t('again')}<//>`}>${error.message}<//>`;
export const Empty = ({ icon, title, children, actions }) => html`<section class="empty"><${Icon} name=${icon} /><h2>${title}</h2><p>${children}</p>${actions && html`<div class="row">${actions}</div>`}</section>`;

export const Bar = ({ value, kind = '', label }) => html`<div class=${`bar ${kind}`} role="meter" aria-label=${label} aria-valuemin="0" aria-valuemax="100" aria-valuenow=${Math.round(100 * value)}><i style=${{ '--v': Math.max(0, Math.min(1, value)) }}></i></div>`;
export const Progress = ({ value, label }) => html`<div class="bar" role="progressbar" aria-label=${label} aria-valuemin="0" aria-valuemax="100" aria-valuenow=${Math.round(100 * value)}><i style=${{ '--v': value }}></i></div>`;

/** A score among the scores that there can be, with the threshold as a tick. */
export function Scale({ value, threshold }) {
  const place = (x) => Math.max(0, Math.min(1, x));
  return html`<div><div class=${`scale ${value >= threshold ? 'yes' : ''}`} style=${{ '--v': place(value), '--t': place(threshold) }} aria-hidden="true"><span class="tick"></span><span class="dot"></span></div>
    <div class="scale-words"><span>${t('score.is', { score: number(value, 3) })}</span><span>${t('score.needs', { threshold: number(threshold, 3) })}</span></div></div>`;
}

export function Seg({ label, value, options, onPick }) {
  return html`<div class="seg" role="group" aria-label=${label}>${options.map(([id, text]) => html`<button type="button" key=${id} aria-pressed=${id === value ? 'true' : 'false'} onClick=${() => onPick(id)}>${text}</button>`)}</div>`;
}

export const Field = ({ label, children }) => html`<label class="field"><span>${label}</span>${children}</label>`;

export function Modal({ title, onClose, children }) {
  const dialog = useRef();
  const id = useId();
  useLayoutEffect(() => {
    const before = document.activeElement;
    dialog.current.showModal();
    dialog.current.querySelector('[autofocus]')?.focus();
    return () => before?.isConnected && before.focus();
  }, []);
  return html`<dialog ref=${dialog} aria-labelledby=${id} onClose=${onClose} onClick=${(event) => event.target === dialog.current && onClose()}>
    <div class="stack"><div class="row apart"><h2 id=${id}>${title}</h2><${Btn} kind="quiet square slim" icon="cross" label=${t('close')} onClick=${onClose} /></div>${children}</div></dialog>`;
}

/** Something loaded: [value, error, again]. It is loaded anew whenever one of the inputs changes. */
export function useLoaded(load, inputs) {
  const [got, put] = useState([undefined, null]);
  const [round, again] = useState(0);
  useEffect(() => {
    let here = true;
    const stop = new AbortController();
    load(stop.signal).then((value) => here && put([value, null]), (error) => here && error.name !== 'AbortError' && put((old) => [old[0], error]));
    return () => { here = false; stop.abort(); };
  }, [...inputs, round]);
  return [got[0], got[1], useCallback(() => again((n) => n + 1), [])];
}

/** [run, busy, error]: run(fn) awaits fn() once at a time and keeps its error. */
export function useTask() {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState(null);
  const running = useRef(false);
  const run = useCallback(async (work) => {
    if (running.current) return undefined;
    running.current = true; setBusy(true); setError(null);
    try { return await work(); } catch (problem) { if (problem.name !== 'AbortError') setError(problem); return undefined; } finally { running.current = false; setBusy(false); }
  }, []);
  return [run, busy, error, setError];
}

export function useUrl(blob) {
  const [url, put] = useState(null);
  useLayoutEffect(() => {
    if (!blob) { put(null); return undefined; }
    const made = URL.createObjectURL(blob);
    put(made);
    return () => URL.revokeObjectURL(made);
  }, [blob]);
  return url;
}

export function Shot({ path, alt = '', whole }) {
  const [src, put] = useState(null);
  useEffect(() => { let here = true; shown(path, whole).then((url) => here && put(url)); return () => { here = false; }; }, [path]);
  return src ? html`<img src=${src} alt=${alt} loading="lazy" decoding="async" />` : null;
}

const initials = (name) => { const parts = name.trim().split(/[\s._-]+/); return ([...parts[0] || '?'][0] + (parts.length > 1 ? [...parts.at(-1)][0] ?? '' : '')).toUpperCase(); };
export function Avatar({ subject, size }) {
  const hue = (subject.id * 47) % 360;
  return html`<span class="avatar" aria-hidden="true" style=${{ '--hue': hue, ...(size ? { '--size': `${size}px` } : {}) }}>${subject.cover ? html`<${Shot} key=${subject.cover} path=${cropPath(subject.cover)} />` : initials(subject.name)}</span>`;
}

export const reason = (id) => known(`reason.${id}`) ? t(`reason.${id}`) : id.replaceAll('_', ' ');
export const expression = (id) => known(`expression.${id}`) ? t(`expression.${id}`) : id;

export function Code({ text }) {
  const copy = async () => { try { await navigator.clipboard.writeText(text); toast(t('copied')); } catch { toast(t('copy.failed')); } };
  return html`<div class="code"><pre tabindex="0"><code>${text}</code></pre><${Btn} kind="quiet square slim" icon="copy" label=${t('copy')} onClick=${copy} /></div>`;
}

/** Details on demand; with `lazy`, what is inside is made when it is first opened. */
export function Fold({ title, children, open, lazy }) {
  const [seen, see] = useState(!lazy || open);
  return html`<details open=${open} onToggle=${(event) => event.currentTarget.open && see(true)}><summary><${Icon} name="chevron" />${title}</summary>${seen && children}</details>`;
}

// Pictures from outside: files, a drop, the clipboard.
const PICTURES = /\.(jpe?g|png|webp|bmp|gif|tiff?|heic|avif)$/i;
export const isPicture = (file) => file.type.startsWith('image/') || PICTURES.test(file.name ?? '');

async function entries(entry, folder, found) {
  if (entry.isFile) {
    const file = await new Promise((yes, no) => entry.file(yes, no));
    found.push({ file, path: folder + file.name });
  } else if (entry.isDirectory) {
    const reader = entry.createReader();
    for (;;) {
      const part = await new Promise((yes, no) => reader.readEntries(yes, no));
      if (!part.length) break;
      for (const child of part) await entries(child, `${folder}${entry.name}/`, found);
    }
  }
}
/** All files of a drop, folders looked into: [{file, path}]. */
export async function dropped(transfer) {
  const roots = [...transfer.items].filter((item) => item.kind === 'file').map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile());
  const found = [];
  for (const root of roots) { if (root instanceof File) found.push({ file: root, path: root.name }); else if (root) await entries(root, '', found); }
  return found;
}
export const listed = (files) => [...files].map((file) => ({ file, path: file.webkitRelativePath || file.name }));

/** Open the dialog for files; the input is in the page so that tests and assistive tools find it. */
export function Picker({ children, kind = '', icon = 'image', onFiles, multiple, folder, accept = 'image/*', label, busy }) {
  const input = useRef();
  const attributes = folder ? { webkitdirectory: true, directory: true } : { accept };
  return html`<${Btn} kind=${kind} icon=${icon} busy=${busy} onClick=${() => input.current.click()}>${children}<//><input ref=${input} type="file" hidden tabindex="-1" aria-label=${label} multiple=${multiple || folder} ...${attributes}
    onChange=${(event) => { const files = listed(event.target.files); event.target.value = ''; if (files.length) onFiles(files); }} />`;
}

/** A place for one picture. */
export function Slot({ title, hint, file, onFile, name }) {
  const url = useUrl(file);
  const [over, setOver] = useState(false);
  const take = (files) => { const one = files.find((item) => isPicture(item.file)); if (one) onFile(one.file); else toast(t('drop.no_picture')); };
  return html`<section class=${`drop slim ${over ? 'over' : ''}`} aria-label=${title} data-slot=${name}
      onDragOver=${(event) => { event.preventDefault(); event.stopPropagation(); setOver(true); }} onDragLeave=${() => setOver(false)}
      onDrop=${async (event) => { event.preventDefault(); event.stopPropagation(); setOver(false); window.dispatchEvent(new Event('mien-dropped')); take(await dropped(event.dataTransfer)); }}>
    ${url ? html`<img class="slot-picture" src=${url} alt=${title} />` : html`<${Icon} name="image" /><h3>${title}</h3><p class="small">${hint || t('drop.here')}</p>`}
    <div class="row"><${Picker} kind="slim" icon="up" label=${title} onFiles=${take}>${t(url ? 'drop.other' : 'drop.choose')}<//></div></section>`;
}

export function save(blob, name) {
  const url = URL.createObjectURL(blob);
  const link = Object.assign(document.createElement('a'), { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

let target = null;
/** While this screen stands, what is dropped anywhere or pasted is its own. */
export function useDrops(take) {
  const latest = useRef(take);
  latest.current = take;
  useEffect(() => { const mine = (files) => latest.current(files); target = mine; if (waiting) { const files = waiting; waiting = null; mine(files); } return () => { if (target === mine) target = null; }; }, []);
}
let waiting = null;
export function deliver(files) {
  if (target) target(files); else { waiting = files; location.hash = '#/try'; }
}

export { quoted };
