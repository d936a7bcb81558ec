import type { PeerName } from './peers.ts';
import type { Report, ReportLine } from './report.ts';
import { threeDigits } from './statistics.ts';

const WIDTH = 970;
const MARGIN = 12;
/** Speed or memory on the left, CPU time on the right. */
const COLUMN_WIDTH = 474;
const LABEL_WIDTH = 176;
const BAR_WIDTH = 190;
const BAR_HEIGHT = 11;
const BAR_STEP = 13;
/** Room for the two lines of text beside the bars. */
const LEAST_HEIGHT = 30;
const GAP = 10;
const TOP = 66;
const BOTTOM = 30;

/** Colours that keep apart, by lightness too, on white and on near-black. */
const STYLE = `
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.quiet { fill: #59636e; font-size: 11px }
.title { font-size: 15px; font-weight: 600 }
.direct { fill: #b1bac4 } .ours { fill: #0969da } .ztunnel { fill: #bc6c00 } .envoy { fill: #8250df }
.whisker { stroke: #1f2328; stroke-width: 1 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .quiet { fill: #9198a1 } .whisker { stroke: #e6edf3 }
  .direct { fill: #484f58 } .ours { fill: #4493f8 } .ztunnel { fill: #db8a1e } .envoy { fill: #ab7df8 }
}`;

/**
 * A report as an SVG image, readable on light and dark pages: for each figure a bar a peer, as long as its median in relation to the
 * largest value of the figure, with minimum and maximum as a whisker and the number beside it.
 */
export function drawChart({ machine, rounds, lines }: Report): string {
  const peers = (['ours', 'ztunnel', 'envoy', 'direct'] as const).filter((peer) =>
    lines.some((line) => line.peers[peer] !== undefined),
  );
  const pieces: string[] = [];
  let y = TOP;
  for (const row of new Set(lines.map((line) => line.row))) {
    const ofRow = lines.filter((line) => line.row === row);
    const left = drawColumn(ofRow.filter(isLeft), peers, MARGIN, y);
    const right = drawColumn(
      ofRow.filter((line) => !isLeft(line)),
      peers,
      MARGIN + COLUMN_WIDTH,
      y,
    );
    pieces.push(...left.pieces, ...right.pieces);
    y = Math.max(left.end, right.end);
  }
  const footer = `${machine.date.slice(0, 10)}, ${machine.processors} × ${machine.processor}, Linux ${machine.kernel} with ${machine.congestionControl}, Node ${machine.node}; median, minimum and maximum of ${rounds}; (×): in relation to ztunnel`;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${y + BOTTOM}" width="${WIDTH}" role="img" aria-label="ambient-kit bench">
<style>${STYLE}</style>
${text(MARGIN, 22, 'title', 'ambient-kit bench: identity check, ten policies and access log switched on')}
${peers.map((peer, i) => legend(peer, MARGIN + i * 100)).join('\n')}
${pieces.join('\n')}
${text(MARGIN, y + 14, 'quiet', footer)}
</svg>
`;
}

function isLeft({ figure }: ReportLine): boolean {
  return !figure.startsWith('cpu');
}

function legend(peer: PeerName, x: number): string {
  return `<rect class="${peer}" x="${x}" y="35" width="11" height="11"/>${text(x + 17, 45, '', peer)}`;
}

function drawColumn(lines: readonly ReportLine[], all: readonly PeerName[], x: number, top: number) {
  const pieces: string[] = [];
  let y = top;
  for (const line of lines) {
    const peers = all.filter((peer) => line.peers[peer] !== undefined);
    pieces.push(drawLine(line, peers, x, y));
    y += Math.max(peers.length * BAR_STEP, LEAST_HEIGHT) + GAP;
  }
  return { pieces, end: y };
}

function drawLine(line: ReportLine, peers: readonly PeerName[], x: number, y: number): string {
  const largest = Math.max(...peers.map((peer) => line.peers[peer]!.max));
  const barsFrom = x + LABEL_WIDTH;
  const scale = (value: number) => (largest > 0 ? (value / largest) * BAR_WIDTH : 0);
  const label = line.row === 'memory' ? line.figure : `${line.row}, ${line.figure}`;
  const parts = [
    text(x, y + 10, '', label),
    text(x, y + 24, 'quiet', line.better === 'more' ? 'more is better' : 'less is better'),
  ];
  for (const [i, peer] of peers.entries()) {
    const { min, median, max } = line.peers[peer]!;
    const top = y + i * BAR_STEP;
    const middle = top + BAR_HEIGHT / 2;
    const width = round(scale(median));
    parts.push(`<rect class="${peer}" x="${barsFrom}" y="${top}" width="${width}" height="${BAR_HEIGHT}"/>`);
    if (max > min) {
      const [from, to] = [round(barsFrom + scale(min)), round(barsFrom + scale(max))];
      parts.push(`<line class="whisker" x1="${from}" y1="${middle}" x2="${to}" y2="${middle}"/>`);
    }
    const ratio = peer === 'ours' && line.ratio !== undefined ? `  (${line.ratio.toFixed(2)} ×)` : '';
    parts.push(text(round(barsFrom + scale(max) + 6), top + 10, 'quiet', `${threeDigits(median)}${ratio}`));
  }
  return parts.join('\n');
}

function text(x: number, y: number, style: string, content: string): string {
  const escaped = content.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
  return `<text x="${x}" y="${y}"${style === '' ? '' : ` class="${style}"`}>${escaped}</text>`;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
