export { crossNode } from './cross-node.ts';
export { denied } from './denied.ts';
export { fastPath } from './fast-path.ts';
export { outsideMesh } from './outside-mesh.ts';
export { plaintextIn } from './plaintext-in.ts';
export { sameNode } from './same-node.ts';
