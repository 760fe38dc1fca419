// Group: many photographs, sorted by person; a name enrols all of somebody's faces.
import { html, Icon, Btn, Head, Notice, Failure, Picker, Progress, Shot, Empty, useState, useEffect, useLoaded, useTask, useDrops, useId } from './ui.js';
import { t, useStore, toast, changed, quoted, percent } from './state.js';
import { archive, running, useJob } from './jobs.js';
import { useNames } from './try.js';
import * as api from './api.js';

/** Faces are numbered through all pictures, in their order. */
function numbering(result) {
  const first = [];
  let n = 0;
  for (const page of result.pictures) { first.push(n); n += page.faces?.length ?? 0; }
  return (picture, face) => first[picture] + face;
}

function Cluster({ job, person, at, names }) {
  const [name, setName] = useState('');
  const [done, setDone] = useState(null);
  const [run, busy, error] = useTask();
  const list = useId();
  const enrol = () => run(async () => {
    const said = await api.namePerson(job, person.id, name.trim());
    changed();
    toast(t('enrol.done', { name: quoted(said.subject.name) }));
    setDone({ ...said.subject, taken: said.pictures.filter((one) => one.status === 'added' || one.status === 'already').length });
  });
  const mood = Object.entries(person.expressions ?? {}).filter(([id]) => id !== 'uncertain').sort((a, b) => b[1] - a[1])[0];
  return html`<article class="cluster" aria-label=${t('group.person', { n: person.id })}>
    <div class="row apart"><h3>${done ? html`<bdi class="name">${done.name}</bdi>` : t('group.person', { n: person.id })}</h3><div class="row"><span class="chip">${t('group.pictures', { n: Array.isArray(person.pictures) ? person.pictures.length : person.pictures })}</span>${mood && mood[1] > 0.5 && html`<span class="chip">${t(`expression.${mood[0]}`)} ${percent(mood[1], 0)}</span>`}</div></div>
    <div class="strip" tabindex="0" role="group" aria-label=${t('group.faces')}>${person.faces.slice(0, 24).map(([picture, face]) => html`<span class="crop" key=${`${picture}.${face}`}><${Shot} path=${`v1/jobs/${job}/faces/${at(picture, face)}`} alt="" /></span>`)}</div>
    <${Failure} error=${error} />
    ${done ? html`<${Notice} kind="good" action=${html`<a class="btn slim" href=${`#/people/${done.id}`}>${t('review.look')}</a>`}>${t('group.enrolled', { n: done.taken })}<//>` : html`<form class="row" onSubmit=${(event) => { event.preventDefault(); if (name.trim()) enrol(); }}>
      <label class="grow"><span class="sr">${t('enrol.who')}</span><input class="input" list=${list} value=${name} maxlength="200" placeholder=${t('enrol.who')} autocomplete="off" onInput=${(event) => setName(event.target.value)} /></label><datalist id=${list}>${(names ?? []).map((one) => html`<option value=${one} />`)}</datalist>
      <button class="btn primary" disabled=${busy || !name.trim()}>${busy ? html`<span class="spin"></span>` : html`<${Icon} name="plus" />`}${t('enrol')}</button></form>`}</article>`;
}

function Result({ job }) {
  const [result, error] = useLoaded(() => api.result(job), [job]);
  const [names] = useNames();
  if (error) return html`<${Failure} error=${error} />`;
  if (!result) return html`<div class="panel stack" aria-hidden="true"><div class="skeleton line"></div><div class="skeleton line"></div></div>`;
  const at = numbering(result);
  return html`<section class="stack"><h2>${t('group.found', { n: result.people.length })}</h2>${result.people.length === 0 ? html`<${Empty} icon="group" title=${t('group.nobody')}>${t('group.nobody.more')}<//>` : html`<div class="two">${result.people.map((person) => html`<${Cluster} key=${person.id} job=${job} person=${person} at=${at} names=${names} />`)}</div>`}</section>`;
}

function Following({ given, onEnd }) {
  const [job, , error] = useJob(given);
  const [run, busy] = useTask();
  useEffect(() => { if (job.state === 'done') onEnd(job); }, [job.state]);
  return html`<div class="panel stack"><div class="row apart"><h3>${t(`jobs.state.${job.state}`)}</h3><span class="small soft num">${job.total ? t('jobs.of', { done: job.done, total: job.total }) : t('jobs.done_n', { n: job.done })}</span></div>
    <${Progress} value=${job.total ? job.done / job.total : 0} label=${t('jobs.progress')} />${job.error && html`<${Notice} kind="bad">${job.error}<//>`}<${Failure} error=${error} />
    ${running(job) && html`<div class="row end"><${Btn} kind="slim" icon="cross" busy=${busy} onClick=${() => run(() => api.endJob(job.id))}>${t('jobs.cancel')}<//></div>`}</div>`;
}

export default function Group({ id }) {
  const { collection } = useStore();
  const [job, setJob] = useState(null);
  const [packed, setPacked] = useState(null);
  const [run, busy, error] = useTask();
  const start = (files) => run(async () => {
    const body = await archive(files, (n) => setPacked([n, files.length]));
    setPacked(null);
    setJob(await api.group(body));
  });
  useDrops(start);
  const show = id ?? (job?.state === 'done' ? job.id : null);
  return html`<div class="page"><${Head} title=${t('group.title')}>${t('group.lead')}<//>
    ${!show && !(job && running(job)) && html`<section class="drop slim" aria-label=${t('group.title')}><${Icon} name="group" /><h2>${t('group.drop')}</h2><p>${t('group.drop.more')}</p>
      <div class="row center"><${Picker} kind="primary" icon="image" multiple label=${t('group.choose')} busy=${busy} onFiles=${start}>${t('group.choose')}<//><${Picker} icon="folder" folder label=${t('jobs.folder')} busy=${busy} onFiles=${start}>${t('jobs.folder')}<//></div>${packed && html`<p class="small num">${t('jobs.packing', { n: packed[0], of: packed[1] })}</p>`}</section>`}
    <${Failure} error=${error} />
    ${!show && job && html`<${Following} key=${job.id} given=${job} onEnd=${setJob} />`}
    ${show && html`<${Result} key=${`${show}${collection}`} job=${show} /><div class="row"><a class="btn" href="#/group" onClick=${() => setJob(null)}>${t('group.again')}</a></div>`}</div>`;
}
