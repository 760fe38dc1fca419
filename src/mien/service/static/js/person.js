// One person: samples, name, consent; move, split, export, erase with its proof.
import { html, Icon, Btn, Head, Notice, Failure, Empty, Field, Modal, Picker, Avatar, Shot, Bar, useState, useLoaded, useTask, useDrops, useId, isPicture, reason, save } from './ui.js';
import { t, useStore, toast, changed, can, number, quoted, date, bytes, percent } from './state.js';
import { moveSamples } from './people.js';
import { useNames } from './try.js';
import * as api from './api.js';

function Title({ who }) {
  const [editing, edit] = useState(false);
  const [name, setName] = useState(who.name);
  const [run, busy, error] = useTask();
  const rename = () => run(async () => {
    const before = who.name;
    if (name.trim() && name.trim() !== before) {
      await api.change(who.id, { name: name.trim() });
      toast(t('rename.done', { name: quoted(name.trim()) }), async () => { await api.change(who.id, { name: before }); changed(); });
      changed();
    }
    edit(false);
  });
  if (!editing) return html`<div class="title-edit"><h1 tabindex="-1"><bdi class="name">${who.name}</bdi></h1>${can('enrol') && html`<${Btn} kind="quiet square" icon="pencil" label=${t('rename')} onClick=${() => { setName(who.name); edit(true); }} />`}</div>`;
  return html`<form class="title-edit" onSubmit=${(event) => { event.preventDefault(); rename(); }} onKeyDown=${(event) => { if (event.key === 'Escape') edit(false); }}>
    <h1 class="sr">${who.name}</h1><label><span class="sr">${t('name')}</span><input class="input" autofocus ref=${(input) => input && document.activeElement !== input && !input.dataset.seen && (input.dataset.seen = '1', input.focus(), input.select())} value=${name} maxlength="200" onInput=${(event) => setName(event.target.value)} /></label>
    <button class="btn primary" disabled=${busy || !name.trim()}>${t('save')}</button><${Btn} onClick=${() => edit(false)}>${t('cancel')}<//><${Failure} error=${error} /></form>`;
}

function Move({ samples, from, onClose }) {
  const [name, setName] = useState(t('unnamed', { n: samples[0] }));
  const [names] = useNames();
  const [run, busy, error] = useTask();
  const list = useId();
  return html`<${Modal} title=${t('move.title', { n: samples.length })} onClose=${onClose}><form class="stack" onSubmit=${(event) => { event.preventDefault(); run(async () => { await moveSamples(samples, from, { name: name.trim() }); onClose(true); }); }}>
    <p class="soft">${t('move.lead', { name: quoted(from.name) })}</p>
    <${Field} label=${t('move.to')}><input class="input" autofocus list=${list} value=${name} maxlength="200" onFocus=${(event) => event.target.select()} onInput=${(event) => setName(event.target.value)} /><//>
    <datalist id=${list}>${(names ?? []).filter((one) => one !== from.name).map((one) => html`<option value=${one} />`)}</datalist>
    <${Failure} error=${error} /><div class="row end"><${Btn} onClick=${() => onClose()}>${t('cancel')}<//><button class="btn primary" disabled=${busy || !name.trim() || name.trim() === from.name}>${t('move')}</button></div></form><//>`;
}

export function Proof({ proof }) {
  const clean = !proof.shared && !proof.out_of_reach.length;
  return html`<div class="stack"><${Notice} kind=${clean ? 'good' : 'warn'} icon="shield">${t(clean ? 'erase.proved' : 'erase.partly')}<//>
    <dl class="dl num"><dt>${t('erase.gone')}</dt><dd>${t('erase.counts', { samples: number(proof.samples), templates: number(proof.templates), crops: number(proof.crops) })}</dd>
      <dt>${t('erase.bytes')}</dt><dd>${bytes(proof.bytes_erased)}</dd><dt>${t('erase.searched')}</dt><dd>${t('erase.searched.in', { size: bytes(proof.bytes_searched), n: proof.files.length })}</dd>
      <dt>${t('erase.name')}</dt><dd>${t(proof.name_searched ? 'erase.name.yes' : 'erase.name.no')}</dd>
      ${proof.shared > 0 && html`<dt>${t('erase.shared')}</dt><dd>${number(proof.shared)}</dd>`}${proof.out_of_reach.length > 0 && html`<dt>${t('erase.out_of_reach')}</dt><dd>${proof.out_of_reach.join(', ')}</dd>`}</dl></div>`;
}

function Erase({ who, onClose }) {
  const [run, busy, error] = useTask();
  const [proof, setProof] = useState(null);
  return html`<${Modal} title=${proof ? t('erase.done', { name: quoted(who.name) }) : t('erase.title', { name: quoted(who.name) })} onClose=${() => onClose(proof)}>
    ${proof ? html`<${Proof} proof=${proof} /><div class="row end"><${Btn} icon="down" onClick=${() => save(new Blob([JSON.stringify(proof, null, 2)], { type: 'application/json' }), `erasure-${proof.subject_id}.json`)}>${t('erase.keep')}<//><${Btn} kind="primary" onClick=${() => onClose(proof)}>${t('close')}<//></div>`
      : html`<p>${t('erase.lead', { n: who.samples })}</p><${Failure} error=${error} /><div class="row end"><${Btn} autofocus onClick=${() => onClose()}>${t('cancel')}<//><${Btn} kind="danger primary" icon="trash" busy=${busy} onClick=${() => run(async () => setProof(await api.erase(who.id)))}>${t('erase.yes')}<//></div>`}<//>`;
}

function Facts({ who, onClose }) {
  const [consent, setConsent] = useState(who.consent ?? '');
  const [until, setUntil] = useState(who.retain_until?.slice(0, 10) ?? '');
  const [run, busy, error] = useTask();
  return html`<${Modal} title=${t('facts.edit')} onClose=${onClose}><form class="stack" onSubmit=${(event) => { event.preventDefault(); run(async () => { await api.change(who.id, { consent: consent.trim() || null, retain_until: until || null }); changed(); onClose(); }); }}>
    <${Field} label=${t('consent')}><input class="input" autofocus value=${consent} maxlength="500" placeholder=${t('consent.example')} onInput=${(event) => setConsent(event.target.value)} /><//>
    <${Field} label=${t('retain')}><input class="input" type="date" value=${until} onInput=${(event) => setUntil(event.target.value)} /><//><p class="small soft">${t('retain.means')}</p>
    <${Failure} error=${error} /><div class="row end"><${Btn} onClick=${onClose}>${t('cancel')}<//><button class="btn primary" disabled=${busy}>${t('save')}</button></div></form><//>`;
}

export default function Person({ id }) {
  const { revision, collection, key } = useStore();
  const [said, error] = useLoaded(() => api.samples(id), [id, revision, collection, key]);
  const [chosen, choose] = useState([]);
  const [open, setOpen] = useState(null);
  const [run, busy, problem] = useTask();
  const who = said?.subject;
  const samples = said?.samples ?? [];
  const flip = (sample) => choose(chosen.includes(sample) ? chosen.filter((one) => one !== sample) : [...chosen, sample]);
  const add = (files) => run(async () => {
    const answer = await api.addSamples(id, files.filter((item) => isPicture(item.file)).slice(0, 20).map((item) => item.file));
    const added = answer.pictures.filter((one) => one.status === 'added').length;
    changed();
    toast(t('samples.added', { n: added, of: answer.pictures.length }));
  });
  useDrops(add);
  const eraseOne = (sample) => run(async () => { await api.eraseSample(sample); changed(); toast(t('sample.erased')); });
  const closed = (after) => { setOpen(null); if (after && open === 'erase') { changed(); location.hash = '#/people'; } else if (after) { choose([]); } };
  if (error?.status === 404) return html`<div class="page"><h1 class="sr" tabindex="-1">${t('people')}</h1><${Empty} icon="people" title=${t('person.gone')} actions=${html`<a class="btn" href="#/people">${t('person.back')}</a>`}>${error.message}<//></div>`;
  if (!who) return html`<div class="page"><${Head} title=${t('people')} /><${Failure} error=${error} />${!error && html`<div class="hero" aria-hidden="true"><span class="avatar skeleton"></span><div class="skeleton line"></div></div>`}</div>`;
  return html`<div class="page">
    <a class="btn quiet slim back" href="#/people"><${Icon} name="chevron" />${t('person.back')}</a>
    <header class="hero"><${Avatar} subject=${who} size=${104} /><div class="grow stack-s"><${Title} key=${who.id} who=${who} />
        <p class="soft">${t('samples.n', { n: who.samples })} · ${t('person.since', { date: date(who.created) })}</p>
        <div class="row"><span class="chip">${who.consent ? t('consent.is', { text: who.consent }) : t('consent.none')}</span><span class="chip">${who.retain_until ? t('retain.until', { date: date(who.retain_until) }) : t('retain.none')}</span><${Btn} kind="quiet slim" icon="pencil" onClick=${() => setOpen('facts')}>${t('facts.edit')}<//></div></div>
      <div class="row"><${Picker} icon="plus" multiple label=${t('samples.add')} busy=${busy} onFiles=${add}>${t('samples.add')}<//>
        ${can('admin') && html`<${Btn} icon="down" onClick=${() => run(async () => save(await api.exported(id), `subject-${id}.zip`))}>${t('export')}<//><${Btn} kind="danger" icon="trash" onClick=${() => setOpen('erase')}>${t('erase')}<//>`}</div></header>
    <${Failure} error=${problem ?? error} />
    <section class="stack"><h2>${t('samples')}</h2>
      <ul class="samples">${samples.map((one) => html`<li class=${`sample ${chosen.includes(one.id) ? 'on' : ''}`} key=${one.id}>
        <div class="shot">${one.crop_bytes ? html`<${Shot} path=${api.cropPath(one.id)} alt=${t('sample.picture', { n: one.id })} />` : html`<span class="small">${t('sample.no_picture')}</span>`}</div>
        <label class="pick"><span class="sr">${t('sample.pick', { n: one.id })}</span><input type="checkbox" checked=${chosen.includes(one.id)} onChange=${() => flip(one.id)} /></label>
        <div class="words"><div class="row apart small"><span class="soft">${date(one.created)}</span>${one.quality !== null && html`<span class="num" title=${t('quality.means')}>${percent(one.quality, 0)}</span>`}</div>
          ${one.quality !== null && html`<${Bar} value=${one.quality} kind=${one.quality >= 0.6 ? '' : one.quality >= 0.3 ? 'warn' : 'bad'} label=${t('quality')} />`}
          ${one.reasons.length > 0 && html`<div class="row">${one.reasons.map((why) => html`<span class="chip warn">${reason(why)}</span>`)}</div>`}
          <div class="row last">${can('enrol') && html`<${Btn} kind="slim" onClick=${() => setOpen([one.id])}>${t('sample.not')}<//>`}${samples.length > 1 && can('admin') && html`<${Btn} kind="quiet slim square" icon="trash" label=${t('sample.erase', { n: one.id })} onClick=${() => eraseOne(one.id)} />`}</div></div></li>`)}</ul></section>
    ${chosen.length > 0 && can('enrol') && html`<div class="dock" role="region" aria-label=${t('samples.picked', { n: chosen.length })}><span>${t('samples.picked', { n: chosen.length })}</span><div class="row"><${Btn} kind="slim primary" icon="split" onClick=${() => setOpen(chosen)}>${t('samples.move')}<//><${Btn} kind="slim quiet" onClick=${() => choose([])}>${t('cancel')}<//></div></div>`}
    ${open === 'erase' && html`<${Erase} who=${who} onClose=${closed} />`}${open === 'facts' && html`<${Facts} who=${who} onClose=${() => setOpen(null)} />`}${Array.isArray(open) && html`<${Move} samples=${open} from=${who} onClose=${closed} />`}
  </div>`;
}
