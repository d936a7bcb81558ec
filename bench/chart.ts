import type { PeerName } from './peers.ts';
import type { Report, ReportLine } from './report.ts';
import { threeDigits } from './statistics.ts';

const WIDTH = 860;
const LABEL_WIDTH = 190;
const BAR_WIDTH = 430;
const BAR_HEIGHT = 12;
const BAR_GAP = 2;
const LINE_GAP = 12;
const TOP = 64;
const BOTTOM = 34;

/** Colours that keep apart, by lightness too, on white and on near-black. */
const STYLE = `
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.quiet { fill: #59636e; font-size: 12px }
.title { font-size: 16px; font-weight: 600 }
.direct { fill: #b1bac4 } .ours { fill: #0969da } .ztunnel { fill: #bc6c00 } .envoy { fill: #8250df }
.whisker { stroke: #1f2328; stroke-width: 1 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .quiet { fill: #9198a1 } .whisker { stroke: #e6edf3 }
  .direct { fill: #484f58 } .ours { fill: #4493f8 } .ztunnel { fill: #db8a1e } .envoy { fill: #ab7df8 }
}`;

/**
 * A report as an SVG image, readable on light and dark pages: for each figure a bar a peer, as long as its median in relation to the
 * longest of the line, with minimum and maximum as a whisker and the number beside it.
 */
export function drawChart(report: Report): string {
  const peers = (['ours', 'ztunnel', 'envoy', 'direct'] as const).filter((peer) =>
    report.lines.some((line) => line.peers[peer] !== undefined),
  );
  const pieces: string[] = [];
  let y = TOP;
  for (const line of report.lines) {
    const measured = peers.filter((peer) => line.peers[peer] !== undefined);
    pieces.push(drawLine(line, measured, y));
    y += measured.length * (BAR_HEIGHT + BAR_GAP) + LINE_GAP;
  }
  const { machine, rounds } = report;
  const footer = `${machine.date.slice(0, 10)}, ${machine.processors} × ${machine.processor}, Linux ${machine.kernel}, Node ${machine.node}; median, minimum and maximum of ${rounds}`;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${y + BOTTOM}" width="${WIDTH}" role="img" aria-label="ambient-kit bench">
<style>${STYLE}</style>
${text(12, 24, 'title', 'Two proxies between two pods: everything switched on')}
${peers.map((peer, i) => legend(peer, 12 + i * 110)).join('\n')}
${pieces.join('\n')}
${text(12, y + 16, 'quiet', footer)}
</svg>
`;
}

function legend(peer: PeerName, x: number): string {
  return `<rect class="${peer}" x="${x}" y="36" width="12" height="12"/>${text(x + 18, 47, '', peer)}`;
}

function drawLine(line: ReportLine, peers: readonly PeerName[], y: number): string {
  const longest = Math.max(...peers.map((peer) => line.peers[peer]!.max));
  const scale = (value: number) => (longest > 0 ? (value / longest) * BAR_WIDTH : 0);
  const parts = [
    text(12, y + 10, '', `${line.row}, ${line.figure}`),
    text(12, y + 25, 'quiet', line.better === 'more' ? 'more is better' : 'less is better'),
  ];
  for (const [i, peer] of peers.entries()) {
    const { min, median, max } = line.peers[peer]!;
    const top = y + i * (BAR_HEIGHT + BAR_GAP);
    const middle = top + BAR_HEIGHT / 2;
    parts.push(
      `<rect class="${peer}" x="${LABEL_WIDTH}" y="${top}" width="${round(scale(median))}" height="${BAR_HEIGHT}"/>`,
    );
    if (max > min) {
      parts.push(
        `<line class="whisker" x1="${round(LABEL_WIDTH + scale(min))}" y1="${middle}" x2="${round(LABEL_WIDTH + scale(max))}" y2="${middle}"/>`,
      );
    }
    const isOurs = peer === 'ours' && line.ratio !== undefined;
    const label = isOurs ? `${threeDigits(median)}  (${line.ratio.toFixed(2)} × ztunnel)` : threeDigits(median);
    parts.push(text(round(LABEL_WIDTH + scale(max) + 6), top + 10, 'quiet', label));
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
