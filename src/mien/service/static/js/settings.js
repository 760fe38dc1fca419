// Settings: key, decisions and their error rates, collections, models, look.
import { html, Icon, Btn, Head, Notice, Failure, Field, Fold, Seg, Modal, useState, useLoaded, useTask } from './ui.js';
import { t, useStore, set, speak, toast, changed, can, number, percent, bytes, date, LANGUAGES, quoted } from './state.js';
import { refresh } from './app.js';
import * as api from './api.js';

const WIDE = 560, HIGH = 190, LEFT = 46, FOOT = 26;
const down = (rate) => Math.min(1, Math.max(0, -Math.log10(Math.max(rate ?? 0, 1e-5)) / 5)); // 1 is at the top, 1e-5 at the foot

function Curve({ curve, threshold }) {
  const [low, high] = [curve[0].threshold, curve.at(-1).threshold];
  const x = (value) => LEFT + (WIDE - LEFT - 8) * (high > low ? (value - low) / (high - low) : 0);
  const y = (rate) => 8 + (HIGH - FOOT - 8) * down(rate);
  const path = (of) => curve.filter((point) => point[of] !== null).map((point, i) => `${i ? 'L' : 'M'}${x(point.threshold).toFixed(1)} ${y(point[of]).toFixed(1)}`).join('');
  return html`<svg class="chart" viewBox=${`0 0 ${WIDE} ${HIGH}`} role="img" aria-label=${t('point.chart')}>
    ${[1, 0.1, 0.01, 0.001, 0.0001].map((rate) => html`<line x1=${LEFT} x2=${WIDE - 8} y1=${y(rate)} y2=${y(rate)} /><text x=${LEFT - 8} y=${y(rate) + 4} text-anchor="end">${percent(rate, 2)}</text>`)}
    <path class="fmr" d=${path('fmr')} /><path class="fnmr" d=${path('fnmr')} /><line class="now" x1=${x(threshold)} x2=${x(threshold)} y1="8" y2=${HIGH - FOOT} />
    <text x=${LEFT} y=${HIGH - 6}>${number(low, 2)}</text><text x=${WIDE - 8} y=${HIGH - 6} text-anchor="end">${number(high, 2)}</text></svg>`;
}

function OperatingPoint() {
  const { revision, collection, key, rule } = useStore();
  const [said, error, again] = useLoaded(() => api.points(), [revision, collection, key]);
  const [at, setAt] = useState(null);
  const [run, busy, problem] = useTask();
  if (error) return html`<${Failure} error=${error} again=${again} />`;
  if (!said) return html`<div class="skeleton chartless" aria-hidden="true"></div>`;
  const { curve, points } = said;
  const used = rule.threshold ?? points.find((point) => point.target_fmr === rule.fmr)?.threshold ?? points[0]?.threshold ?? 0.5;
  const nearest = curve.length ? curve.reduce((best, point, i) => Math.abs(point.threshold - used) < Math.abs(curve[best].threshold - used) ? i : best, 0) : 0;
  const here = Math.min(at ?? nearest, curve.length - 1);
  const point = curve[here];
  const byRate = html`<${Field} label=${t('point.rate')}><select class="select" value=${rule.threshold !== undefined ? '' : String(rule.fmr)} onChange=${(event) => { if (event.target.value) { set({ rule: { fmr: Number(event.target.value) } }); setAt(null); } }}>
    ${rule.threshold !== undefined && html`<option value="">${t('point.own', { threshold: number(rule.threshold, 3) })}</option>`}${[0.01, 0.001, 0.0001].map((rate) => html`<option value=${String(rate)}>${t('one_in', { many: number(1 / rate) })}</option>`)}</select><//>`;
  return html`<div class="stack"><p class="soft">${t(said.source === 'gallery' ? 'point.gallery' : 'point.model')}</p>${byRate}
    ${said.note && html`<${Notice}>${said.note}<//>`}
    ${curve.length > 1 ? html`<h3>${t('point.this')}</h3><${Curve} curve=${curve} threshold=${point.threshold} />
      <label class="field"><span>${t('point.threshold')} · <span class="num">${number(point.threshold, 3)}</span></span><input type="range" min="0" max=${curve.length - 1} value=${here} aria-valuetext=${number(point.threshold, 3)} onInput=${(event) => setAt(Number(event.target.value))} /></label>
      <div class="rates" aria-live="polite"><div><b class="num bad-ink">${percent(point.fmr, 2)}</b><span class="small soft">${t('point.fmr')}</span></div><div><b class="num good-ink">${percent(point.fnmr, 2)}</b><span class="small soft">${t('point.fnmr')}</span></div></div>
      <p class="small soft">${t('point.pairs', { genuine: number(said.genuine), impostor: number(said.impostor) })}</p>
      <div class="row"><${Btn} kind="primary" disabled=${Math.abs(point.threshold - used) < 1e-9} onClick=${() => { set({ rule: { threshold: Number(point.threshold.toFixed(4)) } }); toast(t('point.used')); }}>${t('point.use')}<//>${can('admin') && html`<${Btn} busy=${busy} onClick=${() => run(async () => { await api.calibrate(rule.fmr ?? 0.001); again(); toast(t('point.calibrated')); })}>${t('point.calibrate')}<//>`}</div><${Failure} error=${problem} />`
      : html`<${Notice}>${t('point.few')}<//>`}</div>`;
}

function Key() {
  const { key, session } = useStore();
  const [text, setText] = useState(key);
  const [run, busy, error] = useTask();
  const use = (value) => run(async () => { await api.tryKey(value.trim()); set({ key: value.trim() }); await refresh(); changed(); });
  return html`<form class="stack" onSubmit=${(event) => { event.preventDefault(); use(text); }}><p class="soft">${t(session?.keys_required ? 'key.needed' : 'key.free')}</p>
    <${Field} label=${t('key')}><input class="input" type="password" autocomplete="off" spellcheck=${false} placeholder="mien_…" value=${text} onInput=${(event) => setText(event.target.value)} /><//>
    <p class="small soft">${t('key.kept')}</p>${session?.key && html`<${Notice} kind="good">${t('key.is', { label: session.key.label, date: session.key.expires ? date(session.key.expires) : '–' })}<//>`}<${Failure} error=${error} />
    <div class="row"><button class="btn primary" disabled=${busy || text.trim() === key}>${t('key.use')}</button>${key && html`<${Btn} onClick=${() => { setText(''); use(''); }}>${t('key.forget')}<//>`}</div></form>`;
}

function Collections() {
  const { collection, key, revision, session } = useStore();
  const [said, error, again] = useLoaded(() => api.collections(), [key, revision]);
  const [name, setName] = useState('');
  const [gone, setGone] = useState(null);
  const [run, busy, problem] = useTask();
  const add = () => run(async () => { const made = await api.newCollection(name.trim()); setName(''); again(); set({ collection: made.name }); await refresh(); });
  return html`<div class="stack"><p class="soft">${t('collections.lead')}</p><${Failure} error=${error ?? problem} />
    <ul class="lines">${(said?.collections ?? []).map((one) => html`<li key=${one.name} class="row apart"><label class="row"><input type="radio" name="collection" checked=${one.name === collection} onChange=${() => { set({ collection: one.name }); changed(); }} /><bdi class="name">${one.name}</bdi><span class="chip">${t(`scope.${one.scope}`)}</span>${one.retention_days && html`<span class="chip">${t('collections.days', { n: one.retention_days })}</span>`}</label>
      ${one.name !== 'default' && one.scope === 'admin' && html`<${Btn} kind="quiet slim square" icon="trash" label=${t('collections.erase', { name: quoted(one.name) })} onClick=${() => setGone(one)} />`}</li>`)}</ul>
    ${session?.operator !== false && html`<form class="row" onSubmit=${(event) => { event.preventDefault(); if (name.trim()) add(); }}><label class="grow"><span class="sr">${t('collections.new')}</span><input class="input" value=${name} maxlength="64" placeholder=${t('collections.new')} onInput=${(event) => setName(event.target.value)} /></label><button class="btn" disabled=${busy || !name.trim()}><${Icon} name="plus" />${t('collections.add')}</button></form>`}
    ${gone && html`<${Modal} title=${t('collections.erase', { name: quoted(gone.name) })} onClose=${() => setGone(null)}><p>${t('collections.erase.lead')}</p><div class="row end"><${Btn} onClick=${() => setGone(null)}>${t('cancel')}<//><${Btn} kind="danger primary" icon="trash" busy=${busy} onClick=${() => run(async () => { const erased = await api.dropCollection(gone.name); setGone(null); if (collection === gone.name) set({ collection: 'default' }); changed(); again(); toast(t('collections.erased', { n: erased.subjects })); })}>${t('erase.yes')}<//></div><//>`}</div>`;
}

function Models() {
  const { key } = useStore();
  const [said, error] = useLoaded(() => api.models(), [key]);
  const rows = [...(said?.models ?? [])].sort((a, b) => Number(b.present) - Number(a.present) || a.role.localeCompare(b.role));
  return html`<div class="stack"><${Failure} error=${error} /><div class="scroll" tabindex="0" role="region" aria-label=${t('models')}><table class="table models"><thead><tr><th>${t('models.name')}</th><th>${t('models.role')}</th><th>${t('models.licence')}</th><th>${t('models.here')}</th></tr></thead><tbody>${rows.map((one) => html`<tr key=${one.id}><td>${one.name}${one.default && html` <span class="chip good">${t('models.default')}</span>`}</td><td>${one.role}</td><td>${one.licence}</td><td>${one.present ? t('models.yes') : one.download_bytes ? bytes(one.download_bytes) : t('models.no')}</td></tr>`)}</tbody></table></div></div>`;
}

function Log() {
  const { key } = useStore();
  const [said, error] = useLoaded(() => api.audit(), [key]);
  return html`<div class="stack"><p class="soft">${t('log.lead')}</p><${Failure} error=${error} /><div class="scroll" tabindex="0" role="region" aria-label=${t('log')}><table class="table"><thead><tr><th>${t('log.time')}</th><th>${t('log.who')}</th><th>${t('log.what')}</th><th>${t('collection')}</th></tr></thead><tbody>${(said?.entries ?? []).map((one) => html`<tr key=${one.number}><td class="nowrap">${date(one.time, true)}</td><td>${one.key ?? t('log.nobody')}</td><td>${one.action}</td><td>${one.collection ?? '–'}</td></tr>`)}</tbody></table></div></div>`;
}

export function Look() {
  const { lang, theme } = useStore();
  return html`<div class="row"><${Seg} label=${t('language')} value=${lang} options=${Object.entries(LANGUAGES)} onPick=${speak} /><${Seg} label=${t('theme')} value=${theme} options=${['auto', 'light', 'dark'].map((id) => [id, t(`theme.${id}`)])} onPick=${(id) => set({ theme: id })} /></div>`;
}

export default function Settings() {
  const { session, key } = useStore();
  const panel = (id, title, body) => html`<section class="panel stack" aria-labelledby=${id}><h2 id=${id}>${title}</h2>${body}</section>`;
  const access = panel('access', t('key.title'), html`<${Key} />`);
  const look = panel('look', t('look'), html`<${Look} />`);
  const about = panel('about', t('about'), html`<p class="soft">${t('about.lead')}</p><dl class="dl"><dt>${t('version')}</dt><dd>${session?.version ?? '–'}</dd><dt>${t('embedder')}</dt><dd>${session?.embedder ?? '–'}</dd><dt>${t('interface')}</dt><dd><a href="openapi.json">openapi.json</a></dd></dl>`);
  if (session?.keys_required && !key) return html`<div class="page"><${Head} title=${t('settings')} /><div class="two wide"><div>${access}</div><div class="stack-l">${look}${about}</div></div></div>`;
  return html`<div class="page"><${Head} title=${t('settings')} /><div class="two wide">
    <div class="stack-l">${panel('decisions', t('point.title'), html`<${OperatingPoint} />`)}${access}</div>
    <div class="stack-l">${look}${panel('collections', t('collections'), html`<${Collections} />`)}${about}</div></div>
    ${panel('models', t('models'), html`<${Fold} lazy title=${t('models.all')}><${Models} /><//>`)}${session?.operator && panel('log', t('log'), html`<${Fold} lazy title=${t('log.show')}><${Log} /><//>`)}</div>`;
}
