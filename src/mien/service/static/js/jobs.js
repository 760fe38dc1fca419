// Jobs: many pictures at once, with what became of each.
import { html, Icon, Btn, Head, Notice, Failure, Empty, Field, Picker, Progress, Fold, useState, useEffect, useLoaded, useTask, useDrops, isPicture, reason } from './ui.js';
import { t, useStore, toast, changed, number, date } from './state.js';
import { zip } from './zip.js';
import * as api from './api.js';

export const running = (job) => job.state === 'queued' || job.state === 'running';
const TONES = { done: 'good', failed: 'bad', cancelled: 'warn' };

/** An archive from what was chosen or dropped: a zip as it is, everything else packed here. */
export async function archive(files, onFile) {
  const [one] = files;
  if (files.length === 1 && /\.zip$/i.test(one.file.name)) return one.file;
  const pictures = files.filter((item) => isPicture(item.file));
  if (!pictures.length) throw new Error(t('drop.no_picture'));
  return zip(pictures, onFile);
}

/** Follow a job while it runs: [job, items, error]. */
export function useJob(given) {
  const [job, setJob] = useState(given);
  const [items, setItems] = useState([]);
  const [error, setError] = useState(null);
  useEffect(() => {
    setJob(given);
    if (!running(given)) return undefined;
    const stop = new AbortController();
    let late = [];
    const flush = () => { if (late.length) { const more = late; late = []; setItems((old) => [...old, ...more].slice(-400)); } };
    const timer = setInterval(flush, 250);
    api.follow(given.id, { progress: setJob, item: (item) => late.push(item) }, stop.signal).then((end) => { flush(); if (end) { setJob(end); changed(); } }, setError);
    return () => { stop.abort(); clearInterval(timer); };
  }, [given.id, given.state]);
  return [job, items, error];
}

export function Counts({ job }) {
  return html`<div class="row">${Object.entries(job.counts ?? {}).filter(([, n]) => n > 0).map(([id, n]) => html`<span class=${`chip ${id === 'added' || id === 'faces' || id === 'people' ? 'good' : id === 'refused' ? 'warn' : id === 'failed' ? 'bad' : ''}`} key=${id}>${t(`count.${id}`) === `count.${id}` ? id : t(`count.${id}`)} <b class="num">${number(n)}</b></span>`)}</div>`;
}

function Rejected({ job, items }) {
  const [all, error] = useLoaded(async () => {
    if (running(job)) return null;
    const found = [];
    for (let after = 0, pages = 0; after !== null && pages < 50; pages++) { const page = await api.items(job.id, after); found.push(...page.items); after = page.next; }
    return found;
  }, [job.id, job.state]);
  const rows = (all ?? items).filter((item) => item.status !== 'added' && item.status !== 'already');
  if (error) return html`<${Failure} error=${error} />`;
  if (!rows.length) return null;
  return html`<${Fold} title=${t('jobs.rejected', { n: rows.length })} open=${rows.length < 6}><div class="scroll"><table class="table"><thead><tr><th>${t('jobs.picture')}</th><th>${t('jobs.what')}</th><th>${t('jobs.why')}</th></tr></thead>
    <tbody>${rows.slice(0, 300).map((item) => html`<tr key=${item.number}><td>${item.path}</td><td><span class=${`chip ${item.status === 'failed' ? 'bad' : 'warn'}`}>${t(`count.${item.status}`)}</span></td><td>${item.error ?? ((item.reasons ?? []).map(reason).join(t('comma')) || item.note || '–')}</td></tr>`)}</tbody></table></div><//>`;
}

function Job({ given, onGone }) {
  const [job, items, lost] = useJob(given);
  const [run, busy, error] = useTask();
  const share = job.total ? job.done / job.total : job.state === 'done' ? 1 : 0;
  return html`<article class="panel stack" aria-label=${t('jobs.job', { kind: t(`jobs.kind.${job.kind}`), id: job.id })}>
    <div class="row apart"><div><h3>${t(`jobs.kind.${job.kind}`)}</h3><p class="small soft">${date(job.created, true)}</p></div><span class=${`chip ${TONES[job.state] ?? ''}`}>${running(job) && html`<span class="spin tiny"></span>`}${t(`jobs.state.${job.state}`)}</span></div>
    ${running(job) && html`<${Progress} value=${share} label=${t('jobs.progress')} />`}
    <div class="row apart"><span class="small soft num">${job.total ? t('jobs.of', { done: job.done, total: job.total }) : t('jobs.done_n', { n: job.done })}</span><${Counts} job=${job} /></div>
    ${job.error && html`<${Notice} kind="bad">${job.error}<//>`}<${Failure} error=${lost ?? error} />
    ${job.kind === 'enrol' && html`<${Rejected} job=${job} items=${items} />`}
    <div class="row end">${job.kind === 'group' && job.state === 'done' && html`<a class="btn slim" href=${`#/group/${job.id}`}>${t('jobs.open')}</a>`}${job.kind === 'enrol' && job.state === 'done' && html`<a class="btn slim" href="#/people">${t('people')}</a>`}
      ${running(job) ? html`<${Btn} kind="slim" icon="cross" busy=${busy} onClick=${() => run(async () => { await api.endJob(job.id); onGone(); })}>${t('jobs.cancel')}<//>` : html`<${Btn} kind="slim quiet" icon="trash" busy=${busy} onClick=${() => run(async () => { await api.endJob(job.id); onGone(); })}>${t('jobs.remove')}<//>`}</div></article>`;
}

export default function Jobs() {
  const { collection, key } = useStore();
  const [said, error, again] = useLoaded(() => api.jobs(), [collection, key]);
  const [subject, setSubject] = useState('');
  const [run, busy, problem] = useTask();
  const [packed, setPacked] = useState(null);
  const start = (files) => run(async () => {
    const body = await archive(files, (n) => setPacked([n, files.length]));
    setPacked(null);
    await api.newJob(body, { subject: subject.trim() });
    toast(t('jobs.started'));
    again();
  });
  useDrops(start);
  return html`<div class="page"><${Head} title=${t('jobs.title')}>${t('jobs.lead')}<//>
    <section class="drop slim" aria-label=${t('jobs.new')}><${Icon} name="folder" /><h2>${t('jobs.drop')}</h2><p>${t('jobs.drop.more')}</p>
      <div class="row center"><${Picker} kind="primary" icon="folder" folder label=${t('jobs.folder')} busy=${busy} onFiles=${start}>${t('jobs.folder')}<//><${Picker} icon="up" accept=".zip,application/zip" label=${t('jobs.zip')} busy=${busy} onFiles=${start}>${t('jobs.zip')}<//></div>
      ${packed && html`<p class="small num">${t('jobs.packing', { n: packed[0], of: packed[1] })}</p>`}
      <${Field} label=${t('jobs.subject')}><input class="input" value=${subject} maxlength="200" placeholder=${t('jobs.subject.none')} onInput=${(event) => setSubject(event.target.value)} /><//></section>
    <${Failure} error=${problem ?? error} again=${error && again} />
    ${said && said.jobs.length === 0 && html`<${Empty} icon="jobs" title=${t('jobs.none')}>${t('jobs.none.more')}<//>`}
    <div class="stack">${(said?.jobs ?? []).map((job) => html`<${Job} key=${job.id} given=${job} onGone=${again} />`)}</div></div>`;
}
