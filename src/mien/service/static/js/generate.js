// Generate: faces of people who do not exist; what a latent does; the way between two faces; another expression.
import { html, Btn, Head, Failure, Field, Seg, Slot, Empty, useState, useEffect, useRef, useLoaded, expression, save } from './ui.js';
import { t, useStore, number, percent } from './state.js';
import * as api from './api.js';

const SHOWN = 8; // sliders at first
const MOST = 64; // faces of one request
const REACH = 3; // of a slider, in standard deviations
const toBlob = async (uri) => { const [head, data] = uri.split(','); const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0)); return new Blob([bytes], { type: head.slice(5).split(';')[0] }); };

function Seed({ value, onInput, label }) {
  return html`<${Field} label=${label ?? t('gen.seed')}><div class="row tight"><input class="input grow num" type="number" min="0" max="2147483647" value=${value} onInput=${(event) => onInput(Math.max(0, Math.floor(Number(event.target.value) || 0)))} /><${Btn} kind="square" icon="dice" label=${t('gen.dice')} onClick=${() => onInput(Math.floor(Math.random() * 1e6))} /></div><//>`;
}
function Expression({ model, value, onPick }) {
  return model.labels?.length > 0 && html`<${Field} label=${t('expression')}><select class="select" value=${value} onChange=${(event) => onPick(event.target.value)}><option value="">${t('gen.any')}</option>${model.labels.map((id) => html`<option value=${id}>${expression(id)}</option>`)}</select><//>`;
}
function Grid({ pictures, busy, count, onPick, picked, way }) {
  const faces = pictures ?? [...Array(count)];
  return html`<div class=${`faces-grid ${way ? 'way' : ''}`} aria-busy=${busy ? 'true' : 'false'}>${faces.map((one, i) => one ? html`<button type="button" key=${i} aria-pressed=${picked === i ? 'true' : 'false'} aria-label=${t('gen.face', { n: i + 1 })} title=${one.label ? expression(one.label) : undefined} onClick=${() => onPick?.(i)}><img src=${one.image} alt="" /></button>` : html`<div class="skeleton square" key=${i} aria-hidden="true"></div>`)}</div>`;
}

function Draw({ model }) {
  const [seed, setSeed] = useState(0);
  const [n, setN] = useState(24);
  const [label, setLabel] = useState('');
  const [truncation, setTruncation] = useState(1);
  const [picked, pick] = useState(null);
  const inputs = [model.name, seed, n, label, truncation];
  const [said, error] = useLoaded(async (signal) => { await new Promise((yes) => setTimeout(yes, 120)); if (signal.aborted) return new Promise(() => {}); return api.generate({ model: model.name, seed, n, expression: label || null, truncation }, signal); }, inputs);
  useEffect(() => pick(null), inputs);
  return html`<div class="stack-l"><div class="panel controls"><${Seed} value=${seed} onInput=${setSeed} /><${Field} label=${t('gen.count')}><select class="select" value=${String(n)} onChange=${(event) => setN(Number(event.target.value))}>${[8, 24, 48, 64].map((count) => html`<option value=${String(count)}>${count}</option>`)}</select><//>
    <${Expression} model=${model} value=${label} onPick=${setLabel} /><${Field} label=${`${t('gen.truncation')} · ${number(truncation, 2)}`}><input type="range" min="0.3" max="1.3" step="0.05" value=${truncation} onInput=${(event) => setTruncation(Number(event.target.value))} /><//></div>
    <${Failure} error=${error} /><${Grid} pictures=${said?.pictures} count=${n} picked=${picked} onPick=${(i) => pick(i === picked ? null : i)} />
    ${picked !== null && said && html`<div class="dock" role="region" aria-label=${t('gen.face', { n: picked + 1 })}><span>${t('gen.face', { n: picked + 1 })}</span><div class="row"><${Btn} kind="slim" icon="down" onClick=${async () => save(await toBlob(said.pictures[picked].image), `${said.model}-${seed}-${picked}.png`)}>${t('save')}<//><${Btn} kind="slim quiet" onClick=${() => pick(null)}>${t('close')}<//></div></div>`}</div>`;
}

/** How far the picture moves from the middle with each latent: pixels, compared on a small canvas. */
async function pixels(uri) {
  const image = new Image();
  image.src = uri;
  await image.decode();
  const canvas = document.createElement('canvas');
  canvas.width = canvas.height = 32;
  const pen = canvas.getContext('2d', { willReadFrequently: true });
  pen.drawImage(image, 0, 0, 32, 32);
  return pen.getImageData(0, 0, 32, 32).data;
}
const apart = (a, b) => { let sum = 0; for (let i = 0; i < a.length; i++) sum += Math.abs(a[i] - b[i]); return sum; };

/** The latents of a face that the model drew itself: not every point of the space is a face. */
async function latentsOfSome(model, seed) {
  for (let tried = 0; tried < 5; tried++) {
    const { pictures } = await api.generate({ model: model.name, n: 1, seed: seed + tried, truncation: 0.7 });
    try { return (await api.encode(await toBlob(pictures[0].image), model.name)).latents; } catch (problem) { if (problem.status !== 422) throw problem; }
  }
  return Array(model.latents).fill(0);
}

function Explore({ model }) {
  const [from, setFrom] = useState(null);
  const [latents, setLatents] = useState(null);
  const [label, setLabel] = useState('');
  const [face, setFace] = useState(null);
  const [axes, setAxes] = useState(null);
  const [shown, setShown] = useState(SHOWN);
  const [problem, setProblem] = useState(null);
  const flying = useRef(false);
  const wanted = useRef(null);
  const ask = { model: model.name, expression: label || model.labels?.[0] || null };
  // One request in flight; the newest position of the sliders is asked for next.
  const draw = async (position) => {
    wanted.current = position;
    if (flying.current) return;
    flying.current = true;
    try { while (wanted.current) { const now = wanted.current; wanted.current = null; setFace((await api.generate({ ...ask, latents: [now] })).pictures[0].image); } setProblem(null); } catch (failure) { setProblem(failure); } finally { flying.current = false; }
  };
  useEffect(() => { if (latents) draw(latents); }, [latents, label, model.name]);
  useEffect(() => {
    if (!from) return undefined;
    // Which of the latents change the face most? Asked once for each start, with all of them moved in turn.
    const stop = new AbortController();
    const moved = (step) => from.map((_, i) => from.map((v, j) => (j === i ? v + step : v)));
    const drawn = async (all) => { const found = []; for (let at = 0; at < all.length; at += MOST) found.push(...(await api.generate({ ...ask, latents: all.slice(at, at + MOST) }, stop.signal)).pictures); return found; };
    const rank = async () => {
      const [less, more] = [await drawn(moved(-REACH)), await drawn(moved(REACH))];
      const ranked = await Promise.all(less.map(async (one, i) => ({ i, less: one.image, more: more[i].image, by: apart(await pixels(one.image), await pixels(more[i].image)) })));
      if (!stop.signal.aborted) setAxes(ranked.sort((a, b) => b.by - a.by));
    };
    setAxes(null);
    rank().catch((failure) => { if (!stop.signal.aborted) setProblem(failure); });
    return () => stop.abort();
  }, [from, label]);
  const start = (next) => { setFrom(next); setLatents(next); };
  const another = async (seed) => { try { start(await latentsOfSome(model, seed)); setProblem(null); } catch (failure) { setProblem(failure); } };
  useEffect(() => { another(7); }, [model.name]);
  const [file, setFile] = useState(null);
  const encode = async (picture) => { setFile(picture); try { start((await api.encode(picture, model.name)).latents); setProblem(null); } catch (failure) { setProblem(failure); } };
  return html`<div class="work explore"><div class="stage"><div class="view portrait">${face ? html`<img src=${face} alt=${t('gen.this')} />` : html`<div class="skeleton square"></div>`}</div>
      <div class="row"><${Btn} icon="dice" onClick=${() => another(Math.floor(Math.random() * 1e6))}>${t('gen.other')}<//><${Btn} icon="undo" onClick=${() => setLatents(from)}>${t('gen.back')}<//><${Btn} kind="quiet" icon="down" disabled=${!face} onClick=${async () => save(await toBlob(face), 'face.png')}>${t('save')}<//></div>
      <${Expression} model=${model} value=${label} onPick=${setLabel} />${model.encodes !== false && html`<${Slot} name="encode" title=${t('gen.from')} hint=${t('gen.from.hint')} file=${file} onFile=${encode} />`}</div>
    <div class="panel stack"><h2>${t('gen.sliders')}</h2><p class="small soft">${t('gen.sliders.lead')}</p><${Failure} error=${problem} />
      ${axes ? axes.slice(0, shown).map(({ i, less, more }, place) => html`<div class="axis" key=${i}><img src=${less} alt="" /><label class="grow"><span class="sr">${t('gen.slider', { n: place + 1 })}</span><input type="range" min=${-REACH} max=${REACH} step="0.1" value=${latents[i] - from[i]} onInput=${(event) => { const next = [...latents]; next[i] = from[i] + Number(event.target.value); setLatents(next); }} /></label><img src=${more} alt="" /></div>`) : !problem && [...Array(SHOWN)].map(() => html`<div class="skeleton axis-line" aria-hidden="true"></div>`)}
      ${axes && shown < axes.length && html`<div><${Btn} kind="slim" onClick=${() => setShown(shown + SHOWN)}>${t('more')}<//></div>`}</div></div>`;
}

function Between({ model }) {
  const [by, setBy] = useState('seeds');
  const [a, setA] = useState(1);
  const [b, setB] = useState(2);
  const [fileA, setFileA] = useState(null);
  const [fileB, setFileB] = useState(null);
  const [steps, setSteps] = useState(9);
  const [at, setAt] = useState(0);
  const pictures = by === 'pictures';
  const [said, error] = useLoaded(async (signal) => {
    if (pictures && !(fileA && fileB)) return null;
    await new Promise((yes) => setTimeout(yes, 150));
    if (signal.aborted) return new Promise(() => {});
    return api.between({ model: model.name, steps, ...(pictures ? {} : { a, b }) }, pictures ? [fileA, fileB] : null);
  }, [model.name, by, a, b, fileA, fileB, steps]);
  const faces = said?.pictures;
  const here = Math.min(at, (faces?.length ?? 1) - 1);
  return html`<div class="stack-l">${model.pictures_between && html`<div><${Seg} label=${t('gen.between')} value=${by} options=${[['seeds', t('gen.seeds')], ['pictures', t('gen.pictures')]]} onPick=${setBy} /></div>`}
    ${pictures ? html`<div class="two"><${Slot} name="a" title=${t('compare.a')} file=${fileA} onFile=${setFileA} /><${Slot} name="b" title=${t('compare.b')} file=${fileB} onFile=${setFileB} /></div>` : html`<div class="panel controls"><${Seed} label=${t('gen.seed.a')} value=${a} onInput=${setA} /><${Seed} label=${t('gen.seed.b')} value=${b} onInput=${setB} /><${Field} label=${t('gen.steps')}><select class="select" value=${String(steps)} onChange=${(event) => setSteps(Number(event.target.value))}>${[5, 9, 17, 33].map((n) => html`<option value=${String(n)}>${n}</option>`)}</select><//></div>`}
    <${Failure} error=${error} />
    ${faces && html`<div class="morph panel"><div class="view portrait"><img src=${faces[here].image} alt=${t('gen.step', { n: here + 1 })} /></div><${Field} label=${t('gen.way')}><input type="range" min="0" max=${faces.length - 1} value=${here} onInput=${(event) => setAt(Number(event.target.value))} /><//></div><${Grid} way pictures=${faces} count=${steps} picked=${here} onPick=${setAt} />`}</div>`;
}

function Edit({ model }) {
  const [file, setFile] = useState(null);
  const [strength, setStrength] = useState(1);
  const [said, error] = useLoaded(async (signal) => { if (!file) return null; await new Promise((yes) => setTimeout(yes, 150)); return signal.aborted ? new Promise(() => {}) : api.edit(file, { expression: 'all', strength, model: model.name }); }, [file, strength, model.name]);
  return html`<div class="two"><div class="stack"><${Slot} name="edit" title=${t('edit.picture')} file=${file} onFile=${setFile} /><${Field} label=${`${t('edit.strength')} · ${number(strength, 2)}`}><input type="range" min="0" max="2" step="0.1" value=${strength} onInput=${(event) => setStrength(Number(event.target.value))} /><//></div>
    <div class="stack"><${Failure} error=${error} />${said ? html`<p class="soft">${t('edit.shown', { expression: said.shown ? expression(said.shown) : '–' })}</p><div class="edits"><figure><img src=${said.before} alt="" /><figcaption>${t('edit.before')}</figcaption></figure>${said.edits.map((one) => html`<figure key=${one.expression}><img src=${one.after} alt="" /><figcaption>${expression(one.expression)}<br /><span class="small soft num">${t('edit.identity', { score: number(one.identity, 2) })}</span></figcaption></figure>`)}</div><p class="small soft">${t('edit.means')}</p>` : file && !error ? html`<div class="edits">${[...Array(7)].map(() => html`<div class="skeleton square" aria-hidden="true"></div>`)}</div>` : html`<p class="soft">${t('edit.lead')}</p>`}</div></div>`;
}

function Hide() {
  const [file, setFile] = useState(null);
  const [mode, setMode] = useState('generate');
  const [said, error] = useLoaded(async () => file && { of: file, by: mode, ...await api.anonymize(file, { mode, people: true }) }, [file, mode]);
  const done = said?.of === file && said?.by === mode ? said : null;
  const words = done && (done.faces.length === 0 ? t('hide.none') : done.matching ? t('hide.matching', { n: done.matching }) : t('hide.safe', { n: done.faces.length }));
  const name = done && `hidden-${file.name?.replace(/\.[^.]*$/, '') || 'picture'}.${done.picture.startsWith('data:image/png') ? 'png' : 'jpg'}`;
  return html`<div class="two"><div class="stack"><${Slot} name="hide" title=${t('hide.picture')} file=${file} onFile=${setFile} /><div><${Seg} label=${t('hide.by')} value=${mode} options=${[['generate', t('hide.generate')], ['blur', t('hide.blur')], ['mosaic', t('hide.mosaic')]]} onPick=${setMode} /></div></div>
    <div class="stack"><${Failure} error=${error} />${done ? html`<div class="view"><img src=${done.picture} alt=${t('hide.result')} /></div><p class="soft" role="status">${words}</p><div class="row"><${Btn} icon="down" onClick=${async () => save(await toBlob(done.picture), name)}>${t('save')}<//></div>` : file && !error ? html`<div class="skeleton square" aria-hidden="true"></div>` : html`<p class="soft">${t('hide.lead')}</p>`}</div></div>`;
}

export default function Generate() {
  const { key } = useStore();
  const [said, error, again] = useLoaded(() => api.generators(), [key]);
  const [tab, setTab] = useState('draw');
  const [name, setName] = useState(null);
  const all = said?.generators ?? [];
  const can = { draw: (one) => !one.needs_identity, explore: (one) => one.latents > 0 && !one.needs_identity, between: (one) => !one.needs_identity, edit: (one) => one.edits, hide: (one) => one.default && one.encodes };
  const fit = all.filter(can[tab]);
  const model = fit.find((one) => one.name === name) ?? fit.find((one) => (tab === 'explore' ? one.encodes && one.labels.length === 0 : one.default)) ?? fit[0];
  const tabs = Object.keys(can).filter((id) => all.some(can[id])).map((id) => [id, t(`gen.tab.${id}`)]);
  const View = { draw: Draw, explore: Explore, between: Between, edit: Edit, hide: Hide }[tab];
  return html`<div class="page"><${Head} title=${t('gen.title')}>${t('gen.lead')}<//><${Failure} error=${error} again=${again} />
    ${said && all.length === 0 && html`<${Empty} icon="spark" title=${t('gen.none')}>${t('gen.none.more')}<//>`}
    ${model && html`<div class="row apart"><${Seg} label=${t('gen.title')} value=${tab} options=${tabs} onPick=${setTab} />${fit.length > 1 && html`<label class="row tight"><span class="label">${t('gen.model')}</span><select class="select slim auto" value=${model.name} onChange=${(event) => setName(event.target.value)}>${fit.map((one) => html`<option value=${one.name}>${one.name} · ${one.side} px</option>`)}</select></label>`}</div><${View} key=${`${tab}${model.name}`} model=${model} />`}</div>`;
}
