// A picture with its faces: boxes that can be focused, and a card for each.
import { html, Icon, Btn, Scale, Bar, Fold, Failure, useState, useTask, useId, reason, expression } from './ui.js';
import { t, quoted, percent, chance, number, score, toast, changed, can } from './state.js';
import * as api from './api.js';

/** "Face 2: ada, score 0.83" for those who listen. */
const spoken = (face, i) => face.subject ? t('face.known', { i: i + 1, name: quoted(face.subject), score: score(face.candidates?.[0]?.score) }) : t('face.unknown', { i: i + 1 });

/** Boxes over whatever is shown below; coordinates are px of the upright picture. */
export function Faces({ children, width, height, faces, on, hot, onPick, onHot, busy, mirror, ids, people }) {
  const across = (box) => mirror ? width - box[2] : box[0];
  return html`<div class=${`view fit ${mirror ? 'mirror' : ''}`} style=${{ '--ar': width / height }}>
    ${children}
    ${faces.length > 0 && html`<svg class="over" viewBox=${`0 0 ${width} ${height}`} preserveAspectRatio="none" role="group" aria-label=${t('face.count', { n: faces.length })}>
      ${faces.map((face, i) => {
        const [left, top, right, bottom] = face.box;
        const edge = { x: across(face.box), y: top, width: right - left, height: bottom - top, rx: Math.min(14, (right - left) / 8) };
        return html`<g key=${ids?.[i] ?? i} class=${`box ${face.subject ? 'known' : 'unknown'} ${i === on || i === hot ? 'on' : ''}`} role="button" tabindex="0" aria-label=${spoken(face, i)} aria-pressed=${i === on ? 'true' : 'false'}
          onClick=${() => onPick?.(i)} onMouseEnter=${() => onHot?.(i)} onMouseLeave=${() => onHot?.(null)} onKeyDown=${(event) => { if (event.key === 'Enter' || event.key === ' ') { event.preventDefault(); onPick?.(i); } }}>
          <rect class="under" ...${edge} /><rect class="edge" ...${edge} /></g>`;
      })}</svg>
    ${faces.map((face, i) => {
      const x = across(face.box) / width;
      const right = x > 0.7;
      const low = face.box[1] < height * 0.105;
      return html`<span key=${ids?.[i] ?? i} class=${`tag ${face.subject ? 'known' : ''} ${low ? 'below' : ''} ${right ? 'right' : ''}`} aria-hidden="true"
        style=${{ '--x': right ? (across(face.box) + face.box[2] - face.box[0]) / width : x, '--y': (low ? face.box[3] : face.box[1]) / height }}><bdi>${face.subject ?? (people === 0 ? t('face.number', { i: i + 1 }) : t('unknown'))}</bdi></span>`;
    })}`}
    ${busy && html`<div class="busy" aria-hidden="true"></div>`}
  </div>`;
}

/** The face alone, cut out of the picture that the browser already has. */
export function Crop({ src, picture, box }) {
  const [left, top, right, bottom] = box;
  const side = 1.35 * Math.max(right - left, bottom - top);
  const view = `${(left + right - side) / 2} ${(top + bottom - side) / 2} ${side} ${side}`;
  return html`<span class="crop" aria-hidden="true"><svg viewBox=${view} preserveAspectRatio="xMidYMid slice"><image href=${src} width=${picture.width} height=${picture.height} preserveAspectRatio="none" /></svg></span>`;
}

export function Expressions({ of }) {
  const rows = Object.entries(of.probabilities).sort((a, b) => b[1] - a[1]);
  const few = rows.slice(0, 3);
  const bars = (some) => html`<div class="bars">${some.map(([id, p], i) => html`<span class=${i === 0 && some === few ? 'top' : ''}>${expression(id)}</span><${Bar} value=${p} kind=${i === 0 && some === few ? '' : 'plain'} label=${expression(id)} /><span class="num">${percent(p, 0)}</span>`)}</div>`;
  return html`<div class="stack-s"><div class="row apart"><span class="label">${t('expression')}</span>${of.uncertain && html`<span class="chip warn">${t('expression.uncertain')}</span>`}</div>${bars(few)}
    ${rows.length > 3 && html`<${Fold} title=${t('expression.others', { n: rows.length - 3 })}>${bars(rows.slice(3))}<//>`}</div>`;
}

export function Quality({ of }) {
  if (!of) return null;
  const kind = of.score >= 0.6 ? '' : of.score >= 0.3 ? 'warn' : 'bad';
  return html`<div class="stack-s"><div class="row apart"><span class="label" title=${t('quality.means')}>${t('quality')}</span><span class="num small">${percent(of.score, 0)}</span></div>
    <${Bar} value=${of.score} kind=${kind} label=${t('quality')} />${of.reasons.length > 0 && html`<div class="row">${of.reasons.map((id) => html`<span class="chip warn">${reason(id)}</span>`)}</div>`}</div>`;
}

/** What it means that a score passes, as a rate. */
export function meaning(point, { match }) {
  if (!point || point.fmr === null || point.fmr === undefined) return t(match ? 'means.own.yes' : 'means.own.no');
  const many = point.fmr > 0 ? number(Math.round(1 / point.fmr)) : null;
  if (match) return many ? t('means.yes', { many }) : t('means.yes.none');
  return point.fnmr === null || point.fnmr === undefined ? t('means.no.plain') : t('means.no', { share: percent(point.fnmr) });
}

/** Why nobody was named, in sentences. */
export function whyUnknown(face, threshold, people) {
  const best = face.candidates?.[0];
  const why = [];
  if (!best) why.push(t(people === 0 ? 'why.empty' : 'why.nobody'));
  else why.push(t('why.below', { name: quoted(best.subject), score: number(best.score, 3), threshold: number(threshold, 3) }));
  const poor = face.quality && (face.quality.score < 0.5 || face.quality.reasons.length > 0);
  if (best && poor) why.push(face.quality.reasons.length ? t('why.poor.reasons', { reasons: face.quality.reasons.map(reason).join(t('comma')), missed: percent(1 - face.quality.score, 0) }) : t('why.poor', { missed: percent(1 - face.quality.score, 0) }));
  if (best && !poor) why.push(t('why.stranger'));
  return why;
}

/** Name a face and keep it: one field, one click. */
export function Enrol({ picture, number: face, given = '', label, names, onDone }) {
  const [name, setName] = useState(given);
  const [run, busy, error] = useTask();
  const list = useId();
  const enrol = (query = {}) => run(async () => {
    const said = await api.enrol(name.trim(), [picture], { face, ...query });
    const page = said.pictures[0];
    toast(page.status === 'already' ? t('enrol.already', { name: quoted(said.subject.name) }) : t('enrol.done', { name: quoted(said.subject.name) }),
      page.status === 'added' && can('admin') ? async () => { await api.eraseSample(page.sample_id); if (said.subject.samples <= 1) await api.erase(said.subject.id); changed(); onDone(null); } : null);
    changed();
    onDone(said.subject, page);
  });
  return html`<form class="stack-s" onSubmit=${(event) => { event.preventDefault(); if (name.trim()) enrol(); }}>
    <div class="row"><label class="grow"><span class="sr">${label}</span><input class="input" list=${list} value=${name} onInput=${(event) => setName(event.target.value)} placeholder=${label} autocomplete="off" maxlength="200" /></label>
      <button class="btn primary" disabled=${busy || !name.trim()} aria-busy=${busy ? 'true' : undefined}>${busy ? html`<span class="spin"></span>` : html`<${Icon} name="plus" />`}${t('enrol')}</button></div>
    <datalist id=${list}>${(names ?? []).map((one) => html`<option value=${one} />`)}</datalist>
    <${Failure} error=${error} />
    ${error?.status === 422 && html`<div><${Btn} kind="slim" onClick=${() => enrol({ min_quality: 0 })}>${t('enrol.anyway')}<//></div>`}
  </form>`;
}

/** Whom else it might be. */
function Candidates({ of, threshold }) {
  return html`<div class="stack-s"><span class="label">${t('candidates')}</span><ol class="candidates">${of.map((one) => html`<li key=${one.subject_id}><a href=${`#/people/${one.subject_id}`}><bdi class="name">${one.subject}</bdi></a><span class="num">${number(one.score, 3)}</span>${one.score >= threshold && html`<${Icon} name="check" />`}</li>`)}</ol></div>`;
}

/** What is known of a face, in one line. */
const Sum = ({ face }) => html`<p class="sum">${face.quality && html`<span>${t('quality')} <b class="num">${percent(face.quality.score, 0)}</b></span>`}${face.expression && html`<span><b>${expression(face.expression.label)}</b> <span class="num">${percent(face.expression.probabilities[face.expression.label], 0)}</span></span>`}</p>`;

export function FaceCard({ src, picture, face, i, on, onPick, onHot, answer, file, names, people, onDone }) {
  const best = face.candidates?.[0];
  const { threshold, operating_point: point } = answer;
  const seen = face.subject ? face.candidates.find((one) => one.subject === face.subject) ?? best : best;
  return html`<article class=${`face ${on ? 'on' : 'shut'}`} id=${`face-${i}`} aria-label=${spoken(face, i)} onMouseEnter=${() => onHot(i)} onMouseLeave=${() => onHot(null)} onClick=${() => !on && onPick(i)} onFocusIn=${() => !on && onPick(i)}>
    <div class="face-head"><${Crop} src=${src} picture=${picture} box=${face.box} />
      <div><h3>${face.subject ? html`<a class="bare" href=${`#/people/${seen.subject_id}`}><bdi class="name">${face.subject}</bdi></a><span class="chip good"><${Icon} name="check" />${t('match')}</span>` : html`<span>${people === 0 ? t('face.number', { i: i + 1 }) : t('unknown')}</span>${best && html`<span class="chip">${t('no_match')}</span>`}`}</h3>
        ${face.subject && seen?.probability != null && html`<p class="small soft">${t('probability', { p: chance(seen.probability) })}</p>`}</div></div>
    ${seen && html`<div class="stack-s"><${Scale} value=${seen.score} threshold=${threshold} />${face.subject && on && html`<p class="small soft">${meaning(point, { match: true })}</p>`}</div>`}
    ${!face.subject && on && html`<div class="stack-s"><span class="label">${t('why')}</span><ul class="why">${whyUnknown(face, threshold, people).map((line) => html`<li>${line}</li>`)}</ul></div>`}
    ${!can('enrol') ? null : !face.subject ? html`<${Enrol} picture=${file} number=${i + 1} label=${t('enrol.who')} names=${names} onDone=${onDone} />`
      : on && html`<${Fold} title=${t('enrol.more')}><${Enrol} picture=${file} number=${i + 1} given=${face.subject} label=${t('enrol.name')} names=${names} onDone=${onDone} /><//>`}
    ${on ? html`<hr /><div class="facts">${face.candidates?.length > 1 && html`<${Candidates} of=${face.candidates} threshold=${threshold} />`}<${Quality} of=${face.quality} />${face.expression && html`<${Expressions} of=${face.expression} />`}</div>` : html`<div class="row apart"><${Sum} face=${face} /><${Btn} kind="quiet slim" label=${t('face.open', { i: i + 1 })} onClick=${() => onPick(i)}>${t('face.details')}<//></div>`}
  </article>`;
}
