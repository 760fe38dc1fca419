// People: who is in the gallery, and what in it a person should look at.
import { html, Icon, Btn, Head, Notice, Failure, Empty, Field, Modal, Picker, Avatar, Shot, useState, useEffect, useLoaded, useTask, useDrops, isPicture } from './ui.js';
import { t, useStore, set, toast, changed, can, number, quoted, score } from './state.js';
import * as api from './api.js';

/** Merge two people and offer to take it back. */
export async function mergeInto(kept, other) {
  const said = await api.merge(kept.id, other.id);
  changed();
  toast(t('merge.done', { name: quoted(other.name), into: quoted(kept.name) }), async () => {
    await api.split({ samples: said.samples, name: said.name });
    changed();
  });
  return said;
}

/** Move samples to somebody else and offer to take it back. */
export async function moveSamples(samples, from, to) {
  const said = await api.split({ samples, ...to, drop_empty: true });
  changed();
  toast(t('move.done', { n: samples.length, name: quoted(said.subject.name) }), async () => {
    const there = said.from[0]?.left > 0;
    await api.split({ samples, ...(there ? { subject: from.id } : { name: from.name }), drop_empty: true });
    changed();
  });
  return said;
}

function NewPerson({ onClose, pictures: given }) {
  const [name, setName] = useState('');
  const [files, setFiles] = useState(given ?? []);
  const [consent, setConsent] = useState('');
  const [run, busy, error] = useTask();
  const [answer, setAnswer] = useState(null);
  const add = () => run(async () => {
    const said = await api.enrol(name.trim(), files.map((item) => item.file), { consent });
    changed();
    const refused = said.pictures.filter((one) => one.status === 'refused' || one.status === 'failed');
    toast(t('enrol.done', { name: quoted(said.subject.name) }));
    if (refused.length) setAnswer(refused); else onClose();
  });
  return html`<${Modal} title=${t('people.add')} onClose=${onClose}><form class="stack" onSubmit=${(event) => { event.preventDefault(); add(); }}>
    <${Field} label=${t('name')}><input class="input" autofocus value=${name} maxlength="200" autocomplete="off" onInput=${(event) => setName(event.target.value)} /><//>
    <div class="stack-s"><span class="label">${t('pictures')}</span><div class="row"><${Picker} icon="image" multiple label=${t('people.pictures')} onFiles=${(more) => setFiles([...files, ...more.filter((item) => isPicture(item.file))].slice(0, 20))}>${t('drop.choose')}<//><span class="soft">${t('pictures.n', { n: files.length })}</span></div></div>
    <${Field} label=${t('consent.optional')}><input class="input" value=${consent} maxlength="500" placeholder=${t('consent.example')} onInput=${(event) => setConsent(event.target.value)} /><//>
    <${Failure} error=${error} />
    ${answer && html`<${Notice} kind="warn">${answer.map((one) => `${one.path}: ${one.error ?? one.reasons.map((id) => t(`reason.${id}`)).join(t('comma'))}`).join(' · ')}<//>`}
    <div class="row end"><${Btn} onClick=${onClose}>${t('cancel')}<//><button class="btn primary" disabled=${busy || !name.trim() || !files.length}>${busy && html`<span class="spin"></span>`}${t('enrol')}</button></div>
  </form><//>`;
}

const token = (finding) => `${finding.kind}:${finding.subjects.join()}:${finding.samples.join()}`;

function Question({ finding, subjects, onLeave }) {
  const [run, busy, error] = useTask();
  const [a, b] = finding.subjects.map((id, i) => subjects.get(id) ?? { id, name: finding.names?.[i] ?? String(id), samples: 1, cover: null });
  const figure = (who) => html`<figure class="grow"><a class="plain" href=${`#/people/${who.id}`} aria-label=${who.name}><${Avatar} subject=${who} size=${76} /></a><figcaption><bdi class="name">${who.name}</bdi></figcaption></figure>`;
  const leave = html`<${Btn} kind="slim quiet" onClick=${onLeave}>${t(`review.${finding.kind}.leave`)}<//>`;
  if (finding.kind === 'two_names') {
    const [kept, other] = a.samples >= b.samples ? [a, b] : [b, a];
    return html`<article class="question"><h3>${t('review.two_names')}</h3><div class="pair">${figure(a)}<${Icon} name="compare" />${figure(b)}</div>
      <p class="small soft">${t('review.two_names.why', { score: score(finding.score) })}</p><${Failure} error=${error} />
      <div class="row"><${Btn} kind="slim primary" icon="merge" busy=${busy} onClick=${() => run(() => mergeInto(kept, other))}>${t('review.merge', { name: quoted(kept.name) })}<//><${Btn} kind="slim" busy=${busy} onClick=${() => run(() => mergeInto(other, kept))}>${t('review.merge', { name: quoted(other.name) })}<//>${leave}</div></article>`;
  }
  const crops = html`<div class="strip">${finding.samples.slice(0, 8).map((id) => html`<span class="crop big" key=${id}><${Shot} path=${api.cropPath(id)} alt="" /></span>`)}</div>`;
  if (finding.kind === 'two_persons') {
    return html`<article class="question"><h3>${t('review.two_persons')}</h3><div class="pair">${figure(a)}<div class="grow">${crops}</div></div>
      <p class="small soft">${t('review.two_persons.why', { n: finding.count, score: score(finding.score) })}</p><${Failure} error=${error} />
      <div class="row"><${Btn} kind="slim primary" icon="split" busy=${busy} onClick=${() => run(() => moveSamples(finding.samples, a, { name: t('unnamed', { n: finding.samples[0] }) }))}>${t('review.split')}<//><a class="btn slim" href=${`#/people/${a.id}`}>${t('review.look')}</a>${leave}</div></article>`;
  }
  return html`<article class="question"><h3>${t('review.matches_many')}</h3><div class="pair">${figure(a)}<div class="grow">${crops}</div></div>
    <p class="small soft">${t('review.matches_many.why', { n: finding.count })}</p><${Failure} error=${error} />
    <div class="row">${can('admin') && html`<${Btn} kind="slim danger" icon="trash" busy=${busy} onClick=${() => run(async () => { for (const id of finding.samples) await api.eraseSample(id); changed(); toast(t('sample.erased')); })}>${t('review.erase')}<//>`}${leave}</div></article>`;
}

export function useFindings() {
  const { revision, collection, key, rule, dismissed } = useStore();
  const [said, error] = useLoaded(() => api.findings(rule), [revision, collection, key, rule]);
  const open = (said?.findings ?? []).filter((finding) => !dismissed.includes(token(finding)));
  return [open, error];
}

export default function People() {
  const { revision, collection, key, dismissed } = useStore();
  const [q, setQ] = useState('');
  const [asked, ask] = useState('');
  const [sort, setSort] = useState('name');
  const [rows, setRows] = useState(null);
  const [chosen, choose] = useState([]);
  const [adding, setAdding] = useState(null);
  const [error, setError] = useState(null);
  const [run, busy, mergeError] = useTask();
  const [findings] = useFindings();
  const [found, setFound] = useState(null);
  const look = ([one]) => run(async () => { choose([]); const said = await api.search(one.file); setFound({ file: one.file.name, scores: new Map(said.candidates.map((hit) => [hit.subject_id, hit.score])), subjects: await Promise.all(said.candidates.map(async (hit) => byId.get(hit.subject_id) ?? (await api.samples(hit.subject_id)).subject)) }); });
  useDrops((files) => setAdding(files.filter((item) => isPicture(item.file))));

  useEffect(() => { const later = setTimeout(() => ask(q), q ? 180 : 0); return () => clearTimeout(later); }, [q]);
  const query = { q: asked, sort, order: sort === 'name' ? 'asc' : 'desc', limit: 60 };
  useEffect(() => {
    const stop = new AbortController();
    api.subjects(query, stop.signal).then((page) => { setRows(page); setError(null); choose((old) => old.filter((id) => page.subjects.some((one) => one.id === id))); }, (problem) => problem.name !== 'AbortError' && setError(problem));
    return () => stop.abort();
  }, [asked, sort, revision, collection, key]);
  const more = async () => { const page = await api.subjects({ ...query, cursor: rows.next }); setRows({ ...page, subjects: [...rows.subjects, ...page.subjects] }); };
  useEffect(() => setFound(null), [revision, collection]);
  const byId = new Map((rows?.subjects ?? []).map((one) => [one.id, one]));
  const picked = chosen.map((id) => byId.get(id)).filter(Boolean);
  const flip = (id) => choose(chosen.includes(id) ? chosen.filter((one) => one !== id) : [...chosen, id]);
  const mergeAll = (kept) => run(async () => { for (const other of picked) if (other !== kept) await mergeInto(kept, other); choose([]); });
  const total = rows?.total ?? 0;
  const add = can('enrol') && html`<${Btn} kind="primary" icon="plus" onClick=${() => setAdding([])}>${t('people.add')}<//>`;

  return html`<div class="page">
    <${Head} title=${t('people')} actions=${total > 0 && add}>${rows && total > 0 ? t('people.n', { n: total }) : null}<//>
    <${Failure} error=${error ?? mergeError} />
    ${findings.length > 0 && can('enrol') && html`<section class="stack" aria-label=${t('review')}><div class="row"><h2>${t('review')}</h2><span class="count">${findings.length}</span></div><p class="soft">${t('review.lead')}</p>
      <div class="review">${findings.slice(0, 12).map((finding) => html`<${Question} key=${token(finding)} finding=${finding} subjects=${byId} onLeave=${() => set({ dismissed: [...dismissed, token(finding)] })} />`)}</div></section>`}
    ${rows && total === 0 && !asked ? html`<${Empty} icon="people" title=${t('people.none')} actions=${html`${add}<a class="btn" href="#/group">${t('nav.group')}</a><a class="btn" href="#/try">${t('nav.try')}</a>`}>${t('people.none.more')}<//>` : html`
      <div class="row"><label class="search grow"><span class="sr">${t('people.search')}</span><${Icon} name="search" /><input class="input" type="search" placeholder=${t('people.search')} value=${q} onInput=${(event) => { setFound(null); setQ(event.target.value); }} /></label>
        <${Picker} icon="scan" label=${t('people.by_face')} busy=${busy} onFiles=${look}>${t('people.by_face')}<//>
        <label><span class="sr">${t('sort')}</span><select class="select" value=${sort} onChange=${(event) => setSort(event.target.value)}>${['name', 'created', 'samples'].map((id) => html`<option value=${id}>${t(`sort.${id}`)}</option>`)}</select></label></div>
      ${found && html`<div class="row"><p class="soft">${t('people.like', { file: quoted(found.file) })}</p><${Btn} kind="quiet slim" icon="cross" onClick=${() => setFound(null)}>${t('people.all')}<//></div>`}
      ${rows && total === 0 && html`<p class="soft">${t('people.not_found', { q: quoted(asked) })}</p>`}
      <ul class="people">${rows ? (found?.subjects ?? rows.subjects).map((one) => html`<li class=${`person ${chosen.includes(one.id) ? 'on' : ''}`} key=${one.id}>
          ${can('enrol') && html`<label class="pick"><span class="sr">${t('people.pick', { name: quoted(one.name) })}</span><input type="checkbox" checked=${chosen.includes(one.id)} onChange=${() => flip(one.id)} /></label>`}
          <${Avatar} subject=${one} /><div><a href=${`#/people/${one.id}`}><bdi class="name">${one.name}</bdi></a><p class="small soft num">${found ? t('score.is', { score: number(found.scores.get(one.id), 3) }) : t('samples.n', { n: one.samples })}</p></div></li>`)
        : !error && [...Array(8)].map(() => html`<li class="person" aria-hidden="true"><span class="avatar skeleton"></span><div class="skeleton line short"></div></li>`)}</ul>
      ${rows?.next && !found && html`<div class="row center"><${Btn} onClick=${more}>${t('more')}<//></div>`}`}
    ${picked.length > 0 && can('enrol') && html`<div class="dock" role="region" aria-label=${t('people.picked', { n: picked.length })}><span>${picked.length === 1 ? t('people.pick_more') : t('people.picked', { n: picked.length })}</span>
      <div class="row">${picked.length > 1 && picked.slice(0, 2).map((kept, i) => html`<${Btn} kind=${i ? 'slim' : 'slim primary'} icon="merge" busy=${busy} onClick=${() => mergeAll(kept)}>${t('merge.into', { name: quoted(kept.name) })}<//>`)}<${Btn} kind="slim quiet" onClick=${() => choose([])}>${t('cancel')}<//></div></div>`}
    ${adding && html`<${NewPerson} pictures=${adding} onClose=${() => setAdding(null)} />`}
  </div>`;
}
