// Try: a picture in, names out.
import { html, Icon, Btn, Head, Notice, Failure, Picker, Code, Fold, Seg, useState, useEffect, useRef, useUrl, useDrops, useLoaded, isPicture } from './ui.js';
import { Faces, FaceCard } from './faces.js';
import { t, useStore, toast, state } from './state.js';
import * as api from './api.js';

export const EXAMPLES = ['one', 'two', 'three', 'crowd'];
const ACCEPT = 'image/*,.heic,.heif,.avif';

/** Names for the field that enrols, and how many people there are. */
export function useNames() {
  const { revision, collection, key } = useStore();
  const [page] = useLoaded((signal) => api.subjects({ limit: 200, sort: 'name' }, signal), [revision, collection, key]);
  return [page?.subjects.map((one) => one.name), page?.total];
}

function Start({ onFiles, onCamera }) {
  const example = async (name) => {
    const blob = await (await fetch(api.address(`static/examples/${name}.webp`))).blob();
    onFiles([{ file: new File([blob], `${name}.webp`, { type: 'image/webp' }), path: name }]);
  };
  const camera = navigator.mediaDevices?.getUserMedia;
  return html`<section class="drop">
    <svg class="glyph" viewBox="0 0 76 76" fill="none" stroke="currentColor" stroke-width="2.6" stroke-linecap="round" aria-hidden="true"><path d="M10 24v-7a7 7 0 0 1 7-7h7M52 10h7a7 7 0 0 1 7 7v7M66 52v7a7 7 0 0 1-7 7h-7M24 66h-7a7 7 0 0 1-7-7v-7" /><g fill="currentColor" stroke="none"><circle cx="28" cy="31" r="4" /><circle cx="48" cy="31" r="4" /><circle cx="38" cy="41" r="2.6" opacity=".6" /><circle cx="30" cy="50" r="3" /><circle cx="46" cy="50" r="3" /></g></svg>
    <h2>${t('try.drop')}</h2>
    <p>${t('try.drop.more')}</p>
    <div class="row"><${Picker} kind="primary" icon="image" accept=${ACCEPT} label=${t('try.choose')} onFiles=${onFiles}>${t('try.choose')}<//>
      ${camera && html`<${Btn} icon="camera" onClick=${onCamera}>${t('try.camera')}<//>`}</div>
    <div class="stack-s examples"><span class="label">${t('try.examples')}</span><div class="row center">${EXAMPLES.map((name, i) => html`<button type="button" class="thumb" key=${name} aria-label=${t('try.example', { i: i + 1 })} onClick=${() => example(name)}><img src=${api.address(`static/examples/${name}.webp`)} alt="" width="92" height="70" /></button>`)}</div></div>
  </section>`;
}

/** What would do the same from a shell or from Python. */
export function Same({ file, path = 'v1/identify', method = 'name_faces', fields = ['picture'] }) {
  const [tongue, pick] = useState('curl');
  const base = document.baseURI.replace(/[#?].*$/, '').replace(/\/$/, '');
  const name = file?.name && /^[\w.-]+$/.test(file.name) ? file.name : 'picture.jpg';
  const names = fields.length > 1 ? ['a.jpg', 'b.jpg'] : [name];
  const query = new URLSearchParams({ ...state.rule, ...(state.collection === 'default' ? {} : { collection: state.collection }) }).toString();
  const key = state.session?.keys_required;
  const rule = Object.entries(state.rule).map(([id, value]) => `${id}=${value}`).join(', ');
  const text = tongue === 'curl'
    ? `curl ${key ? '-H "Authorization: Bearer $MIEN_KEY" ' : ''}\\\n  ${fields.map((field, i) => `-F ${field}=@${names[i]}`).join(' ')} \\\n  '${base}/${path}?${query}'`
    : `from mien.client import Client\n\nwith Client("${base}"${key ? ', key=os.environ["MIEN_KEY"]' : ''}${state.collection === 'default' ? '' : `, collection="${state.collection}"`}) as mien:\n    answer = mien.${method}(${names.map((one) => `"${one}"`).join(', ')}, ${rule})`;
  return html`<${Fold} title=${t('same')}><div class="stack-s"><${Seg} label=${t('same.in')} value=${tongue} options=${[['curl', 'curl'], ['python', 'Python']]} onPick=${pick} /><${Code} text=${key && tongue === 'python' ? `import os\n\n${text}` : text} /></div><//>`;
}

export default function Try() {
  const { rule, collection, key } = useStore();
  const [file, setFile] = useState(null);
  const [got, setGot] = useState(null);
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const [on, setOn] = useState(0);
  const [hot, setHot] = useState(null);
  const [Live, setLive] = useState(null);
  const [dead, setDead] = useState(false);
  const [round, again] = useState(0);
  const url = useUrl(file);
  const [names, people] = useNames();
  const heading = useRef();

  const take = (files) => {
    const pictures = files.filter((item) => isPicture(item.file));
    if (!pictures.length) { toast(t('drop.no_picture')); return; }
    if (pictures.length > 1) toast(t('try.first_of', { n: pictures.length }));
    setLive(null); setGot(null); setError(null); setDead(false); setOn(0); setFile(pictures[0].file);
  };
  useDrops(take);

  useEffect(() => {
    if (!file) return undefined;
    const stop = new AbortController();
    setBusy(true); setError(null);
    api.identify(file, { signal: stop.signal }).then((said) => { setGot({ said, file }); setBusy(false); }, (problem) => { if (problem.name !== 'AbortError') { setError(problem); setGot(null); setBusy(false); } });
    return () => stop.abort();
  }, [file, rule, collection, key, round]);
  useEffect(() => { if (got) heading.current?.focus({ preventScroll: true }); }, [got?.file]);

  const answer = got?.file === file ? got?.said : null;
  const faces = answer?.picture.faces ?? [];
  const camera = async () => { const { default: View } = await import('./live.js'); setLive(() => View); };
  const done = () => again((n) => n + 1);
  const actions = (file || Live) && html`<${Picker} icon="image" accept=${ACCEPT} label=${t('try.choose')} onFiles=${take}>${t('try.another')}<//>${!Live && navigator.mediaDevices?.getUserMedia && html`<${Btn} icon="camera" onClick=${camera}>${t('try.camera')}<//>`}<${Btn} kind="quiet square" icon="cross" label=${t('try.clear')} onClick=${() => { setFile(null); setLive(null); setGot(null); setError(null); }} />`;

  return html`<div class="page">
    <${Head} title=${t('try.title')} actions=${actions}>${!file && !Live ? t('try.lead') : null}<//>
    ${Live ? html`<${Live} names=${names} people=${people} onTake=${(blob) => { setLive(null); take([{ file: blob }]); }} onStop=${() => setLive(null)} />`
      : !file ? html`<${Start} onFiles=${take} onCamera=${camera} />`
      : html`<div class="work"><div class="stage">
          ${dead && !answer ? html`<${Notice} kind="warn">${t('try.cannot_show')}<//>` : url && html`<${Faces} width=${answer?.picture.width ?? 4} height=${answer?.picture.height ?? 3} faces=${faces} on=${on} hot=${hot} onHot=${setHot} people=${people} busy=${busy}
            onPick=${(i) => { setOn(i); document.getElementById(`face-${i}`)?.scrollIntoView({ block: 'nearest', behavior: matchMedia('(prefers-reduced-motion: reduce)').matches ? 'auto' : 'smooth' }); }}><img src=${url} alt=${t('try.picture')} onError=${() => setDead(true)} /><//>`}
          ${answer && html`<${Same} file=${file} />`}
        </div>
        <div class="stack" aria-live="polite" aria-busy=${busy ? 'true' : 'false'}>
          ${error && html`<${Failure} error=${error} again=${done} />`}
          ${answer && html`<h2 ref=${heading} tabindex="-1">${t('face.count', { n: faces.length })}</h2>`}
          ${answer && faces.length === 0 && html`<${Notice}>${t('try.no_face')}<//>`}
          ${people === 0 && faces.length > 0 && html`<${Notice} icon="people">${t('try.first_person')}<//>`}
          ${!answer && !error && html`<span class="sr">${t('working')}</span>${[0, 1].map(() => html`<div class="face" aria-hidden="true"><div class="face-head"><div class="crop skeleton"></div><div class="stack-s"><div class="skeleton line"></div><div class="skeleton line short"></div></div></div><div class="skeleton line"></div><div class="skeleton line"></div></div>`)}`}
          ${answer && faces.map((face, i) => html`<${FaceCard} key=${i} src=${url} picture=${answer.picture} face=${face} i=${i} on=${i === on} onPick=${setOn} onHot=${setHot} answer=${answer} file=${file} names=${names} people=${people} onDone=${done} />`)}
          ${people > 0 && (answer?.notes ?? []).map((note) => html`<p class="small soft">${note[0].toUpperCase() + note.slice(1)}</p>`)}
        </div></div>`}
  </div>`;
}
