"""ESPnet, NeMo, Coqui TTS and torchaudio."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from unpacked import unpacked

from catalog.errors import IntegrityError
from catalog.harvesters import coqui, espnet, nemo, torchaudio
from catalog.record import ModelRecord

APACHE = "Apache License\nVersion 2.0, January 2004"
HOST = "https://weights.example.org"

TABLE = f"""\
corpus,task,name,url,fs,lang,gender,pytorch,espnet,commit,valid
,,test,{HOST}/test.zip,,,,,,,true
ljspeech,tts,jo/ljspeech_vits,https://zenodo.org/record/7/files/a%2Bb.zip?download=1,1,en,f,,,,true
jsut,asr,Jo Doe/jsut_asr_conformer5,https://zenodo.org/record/8/files/c.zip,16000,jp,,,,,TRUE
jsut,tts,jo/withdrawn,{HOST}/w.zip,16000,jp,,,,,false
jsut,sing,jo/unheard_of,{HOST}/s.zip,16000,jp,,,,,true
jsut,tts,jo/nowhere,,16000,jp,,,,,true
"""
MODELS = f'''\
class FooModel:
    @classmethod
    def list_available_models(cls):
        results = []
        results.append(PretrainedModelInfo(
            pretrained_model_name="stt_enes_conformer_ctc_large_ls",
            description="For details about this model, please visit https://example.org/card",
            location="{HOST}/stt_enes.nemo",
        ))
        results.append(PretrainedModelInfo(
            pretrained_model_name="tts_de_fastpitch",
            description="This model is trained on LJSpeech sampled at 22050Hz.",
            location="{HOST}/tts_de.nemo", class_=cls,
        ))
        results.append(PretrainedModelInfo(
            pretrained_model_name="diar_foo", description="", location="https://huggingface.co/f/diar",
        ))
        results.append(PretrainedModelInfo(pretrained_model_name="broken"))
        results.append(PretrainedModelInfo(
            pretrained_model_name="stt_en_nowhere", location="ftp://{HOST}", description="",
        ))


class BarModel:
    def list(self):
        return PretrainedModelInfo(pretrained_model_name="tts_de_fastpitch", location="{HOST}/2")
'''
LIST = {
    "tts_models": {
        "en": {
            "ljspeech": {
                "glow-tts": {"github_rls_url": f"{HOST}/g.zip", "license": "MIT"},
                "tacotron2-DDC_ph": {"repo_id": "foo/tacotron", "license": "apache 2.0"},
                "broken": None,
            }
        },
        "multilingual": {"multi-dataset": {"x": {"license": "CPML", "description": "X"}}},
    },
    "voice_conversion_models": {
        "multilingual": {
            "vctk": {"vc": {"repo_id": "foo/all", "allow": ["vc/*"], "license": "CC BY-NC-ND 4.0"}}
        }
    },
    "unheard_of": {"en": {"a": {"b": {}}}},
    "flat": {"en": 7},
}
BUNDLES = '''\
WAV2VEC2_FOO = Wav2Vec2Bundle("foo.pth", {"encoder_embed_dim": 768, "x": f()}, _sample_rate=1)
WAV2VEC2_FOO.__doc__ = """Wav2vec 2.0 model,
pre-trained on *LibriSpeech* dataset :cite:`7178964`. More.

Published by the authors of *wav2vec 2.0* :cite:`foo` under MIT License and
[`License <https://example.org/LICENSE>`__]
"""
VOXPOPULI_ASR_BASE_10K_DE = Wav2Vec2ASRBundle(_path="vox.pt", _params={})
VOXPOPULI_ASR_BASE_10K_DE.__doc__ = """pre-trained on *VoxPopuli* and fine-tuned on it"""
TACOTRON2_FOO = _Tacotron2CharBundle(_tacotron2_path="t.pth", _wavernn_path="shared.pth")
BROKEN_FOO = RNNTBundle(_factory=f())
lower = RNNTBundle(_rnnt_path="models/x.pt")
'''

Harvest = Callable[[Path], Iterator[ModelRecord]]


def harvested(harvest: Harvest, wheel: Path) -> dict[str, ModelRecord]:
    return {record.uid: record for record in harvest(wheel)}


def test_espnet(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = {espnet.TABLE: TABLE, "zoo-1.0.dist-info/LICENSE": APACHE}
    records = harvested(espnet.harvest, unpacked(tmp_path, "zoo", files))
    assert sorted(records) == ["espnet/Jo_Doe/jsut_asr_conformer5", "espnet/jo/ljspeech_vits"]
    heard = records["espnet/Jo_Doe/jsut_asr_conformer5"]
    assert (heard.task, heard.languages) == ("automatic-speech-recognition", ("ja",))
    assert (heard.architecture, heard.modality) == ("conformer", "audio")
    spoken = records["espnet/jo/ljspeech_vits"]
    assert spoken.origin_url == "https://zenodo.org/record/7"
    assert spoken.artifacts[0].path == "a+b.zip"
    assert spoken.license is not None
    assert (spoken.license.spdx, spoken.license.scope) == ("Apache-2.0", "project")
    assert "line 6" in caplog.text
    assert "line 7" in caplog.text


def test_espnet_without_its_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError):
        next(espnet.harvest(unpacked(tmp_path, "zoo", {})))
    with pytest.raises(IntegrityError):
        next(espnet.harvest(unpacked(tmp_path, "zoo", {espnet.TABLE: b"caf\xe9"})))


def test_nemo(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    wheel = unpacked(
        tmp_path,
        "nemo_toolkit",
        {
            "nemo/collections/asr/models/foo.py": MODELS,
            "nemo/collections/asr/models/bad.py": "PretrainedModelInfo( what?",
            "nemo/collections/asr/models/latin.py": b"# caf\xe9 PretrainedModelInfo(",
        },
        "Apache-2.0",
    )
    records = harvested(nemo.harvest, wheel)
    assert len(records) == 3  # one that two classes list is one
    heard = records["nemo/stt_enes_conformer_ctc_large_ls"]
    assert (heard.task, heard.architecture) == ("automatic-speech-recognition", "FooModel")
    assert (heard.family, heard.languages) == ("conformer", ("en", "es"))
    assert heard.origin_url == "https://example.org/card"
    assert heard.description is None
    assert [d.id for d in heard.source_datasets] == ["librispeech"]
    spoken = records["nemo/tts_de_fastpitch"]
    assert [d.id for d in spoken.source_datasets] == ["ljspeech"]
    assert spoken.artifacts[0].safe is False
    assert records["nemo/diar_foo"].hf_hub_id == "f/diar"
    for name in ("foo.py, line 18", "foo.py, line 19", "bad.py", "latin.py"):
        assert name in caplog.text


def test_coqui(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    wheel = unpacked(tmp_path, "coqui_tts", {coqui.LIST: json.dumps(LIST)}, "MPL-2.0")
    records = harvested(coqui.harvest, wheel)
    assert len(records) == 4
    voice = records["coqui/tts_models/en/ljspeech/glow-tts"]
    assert (voice.task, voice.languages) == ("text-to-speech", ("en",))
    assert [d.id for d in voice.source_datasets] == ["ljspeech"]
    assert voice.artifacts[0].urls == (f"{HOST}/g.zip",)
    other = records["coqui/tts_models/en/ljspeech/tacotron2-DDC_ph"]
    assert (other.hf_hub_id, other.family) == ("foo/tacotron", "tacotron2")
    changer = records["coqui/voice_conversion_models/multilingual/vctk/vc"]
    assert changer.hf_hub_id is None  # a part of a repository does not identify
    assert changer.license is not None
    assert (changer.license.commercial, changer.license.scope) == ("no", "weights")
    assert records["coqui/tts_models/multilingual/multi-dataset/x"].languages == ()
    assert caplog.text.count("is left out") == 3


@pytest.mark.parametrize("text", ["{", b"caf\xe9", "[" * 100_000])
def test_coqui_with_a_broken_list_is_refused(tmp_path: Path, text: str | bytes) -> None:
    with pytest.raises(IntegrityError):
        next(coqui.harvest(unpacked(tmp_path, "coqui_tts", {coqui.LIST: text})))


def test_torchaudio(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bsd = "Redistributions of source code must retain\nRedistributions in binary form"
    wheel = unpacked(
        tmp_path,
        "torchaudio",
        {
            "torchaudio/pipelines/impl.py": BUNDLES,
            "torchaudio/pipelines/bad.py": "(",
            "torchaudio-1.0.dist-info/LICENSE": bsd,
        },
    )
    records = harvested(torchaudio.harvest, wheel)
    assert len(records) == 3
    base = records["torchaudio/WAV2VEC2_FOO"]
    assert (base.task, base.embed_dim, base.family) == ("feature-extraction", 768, "wav2vec2")
    assert base.description == "Wav2vec 2.0 model, pre-trained on LibriSpeech dataset"
    assert base.license is not None
    assert (base.license.spdx, base.license.scope) == ("MIT", "weights")
    assert base.license.url == "https://example.org/LICENSE"
    heard = records["torchaudio/VOXPOPULI_ASR_BASE_10K_DE"]
    assert (heard.task, heard.languages) == ("automatic-speech-recognition", ("de",))
    assert heard.license is not None
    assert (heard.license.spdx, heard.license.scope) == ("BSD-2-Clause", "project")
    spoken = records["torchaudio/TACOTRON2_FOO"]
    assert len(spoken.artifacts) == 1  # a vocoder that others have too would make them one
    assert "BROKEN_FOO is left out" in caplog.text
    assert "bad.py" in caplog.text
