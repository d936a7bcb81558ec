import type { Scenario } from '../scenario.ts';
import { crossNode } from './cross-node.ts';
import { denied } from './denied.ts';
import { fastPath } from './fast-path.ts';
import { outsideMesh } from './outside-mesh.ts';
import { plaintextIn } from './plaintext-in.ts';
import { sameNode } from './same-node.ts';

/** In the order in which they run: the first has the first tunnel between the nodes to itself. */
export const scenarios: readonly Scenario[] = [crossNode, sameNode, outsideMesh, plaintextIn, denied, fastPath];
