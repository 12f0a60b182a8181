"""Physics of probe microscopes: tips, cantilevers, forces, feedback, scanners.

Lengths are nm, forces nN, moduli GPa (GPa nm^2 = nN), stiffness N/m (= nN/nm), energies of
adhesion mJ/m^2 (mJ/m^2 nm = pN), times s unless a name says otherwise. Heights count upwards.
"""
