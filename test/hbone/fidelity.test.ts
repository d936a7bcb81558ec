import { hboneFidelity } from './fidelity.ts';
import { hbone } from './mesh.ts';

hboneFidelity(hbone);
