"""Repositories, and who may do what to them."""

import pytest
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.utils import get_session

from saereg.publishers.local_hub import local_hub
from tests.hub.conftest import REPO, client, commit, files, paths

TOKEN = {"Authorization": "Bearer hf_writer"}


def test_everybody_with_a_token_is_one_user(hub):
    """A token with `read` in it says so."""
    assert client(hub).whoami()["name"] == "local"
    assert client(hub).whoami()["auth"]["accessToken"]["role"] == "write"
    assert client(hub, "hf_reader").whoami()["auth"]["accessToken"]["role"] == "read"
    assert client(hub, "hf_carol.x").whoami()["name"] == "carol"


def test_a_token_of_another_kind_is_nobody(hub):
    with pytest.raises(HfHubHTTPError, match="Invalid user token") as caught:
        client(hub, "secret").whoami()
    assert caught.value.response.status_code == 401


def test_a_repository_is_made_once(hub, api):
    """The second time it is said to be there, with its address, which `exist_ok` reads."""
    with pytest.raises(HfHubHTTPError) as caught:
        api.create_repo(REPO)
    assert caught.value.response.status_code == 409
    assert api.create_repo(REPO, exist_ok=True) == f"{hub.url}/{REPO}"
    assert [found.title for found in api.list_repo_commits(REPO)] == ["initial commit"]
    assert api.list_repo_files(REPO) == [".gitattributes"]


def test_datasets_are_apart_from_models(hub, api):
    assert api.create_repo(REPO, repo_type="dataset") == f"{hub.url}/datasets/{REPO}"
    commit(api, README_md=b"a model")
    assert api.list_repo_files(REPO, repo_type="dataset") == [".gitattributes"]


@pytest.mark.parametrize("name", ["..", ".hidden", "a/../../b"])
def test_a_name_is_no_way_out_of_the_folder(hub, name, tmp_path):
    body = {"name": name, "organization": "org"}
    answer = get_session().post(f"{hub.url}/api/repos/create", json=body, headers=TOKEN)
    assert answer.status_code == 400
    assert [path.name for path in tmp_path.iterdir()] == ["hub"]


def test_reading_needs_no_token_writing_needs_one_that_may(hub, api):
    """403 says that the token may not, 401 that there is none."""
    client(hub, False).auth_check(REPO)
    client(hub, "hf_reader").auth_check(REPO)
    api.auth_check(REPO, write=True)
    for token, status in (("hf_reader", 403), (False, 401)):
        for write in (
            lambda api: api.auth_check(REPO, write=True),
            lambda api: commit(api, README_md=b"no"),
            lambda api: api.create_tag(REPO, tag="v1"),
            lambda api: api.create_repo("org/other"),
        ):
            with pytest.raises(HfHubHTTPError) as caught:
                write(client(hub, token))
            assert caught.value.response.status_code == status
    assert paths(api) == []


def test_a_token_may_be_one_that_only_proposes(hub, api):
    """It opens pull requests and fills them; 403 says how to propose what it may not do itself."""
    guest = client(hub, "hf_propose")
    for write in (
        lambda: guest.auth_check(REPO, write=True),
        lambda: commit(guest, README_md=b"no"),
        lambda: guest.create_tag(REPO, tag="v1"),
        lambda: guest.create_branch(REPO, branch="next"),
    ):
        with pytest.raises(HfHubHTTPError, match="pass `create_pr=1`") as caught:
            write()
        assert caught.value.response.status_code == 403
    with pytest.raises(HfHubHTTPError, match="rights to create"):
        guest.create_repo("org/other")
    one = guest.create_pull_request(REPO, "to come")
    guest.create_commit(REPO, files(w_safetensors=b"weights"), commit_message="more", revision="refs/pr/1")
    guest.change_discussion_status(REPO, one.num, "open")
    guest.create_commit(REPO, files(a_json=b"{}"), commit_message="another one", create_pr=True)
    assert paths(guest, "refs/pr/1") == ["w.safetensors"]
    assert paths(guest, "refs/pr/2") == ["a.json"]
    with pytest.raises(HfHubHTTPError, match="pass `create_pr=1`"):
        guest.merge_pull_request(REPO, one.num)
    assert paths(api) == []


def test_a_private_repository_is_not_there_without_a_token(hub):
    api, stranger = client(hub), client(hub, False)
    api.create_repo("org/private", private=True)
    assert api.repo_info("org/private").private
    assert client(hub, "hf_reader").repo_info("org/private").private
    for read in (stranger.repo_info, stranger.auth_check, stranger.list_repo_refs, stranger.list_repo_files):
        with pytest.raises(RepositoryNotFoundError):
            read("org/private")


def test_what_is_not_there_is_named_so_that_the_client_knows(hub, api):
    with pytest.raises(RepositoryNotFoundError):
        api.repo_info("org/none")
    with pytest.raises(RevisionNotFoundError):
        api.repo_info(REPO, revision="none")
    assert not api.file_exists(REPO, "none.json")
    assert not api.revision_exists(REPO, "v1")


def test_what_this_hub_has_not_is_404_with_a_reason(hub, api):
    with pytest.raises(HfHubHTTPError) as caught:
        api.super_squash_history(REPO)
    assert caught.value.response.status_code == 404
    assert "This hub has no POST" in caught.value.response.json()["error"]
    assert caught.value.response.headers["X-Request-Id"]


@pytest.mark.parametrize("body", [b"{", b"[1]", b"{}", b'{"files": [1]}', b'{"files": [{"path": 1, "size": "x"}]}'])
def test_a_malformed_request_is_told_so(hub, api, body):
    answer = get_session().post(f"{hub.url}/api/models/{REPO}/preupload/main", content=body, headers=TOKEN)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("malformed request: ")


def test_a_body_of_unknown_length_is_refused(hub, api):
    answer = get_session().post(f"{hub.url}/api/repos/create", content=iter([b"{}"]), headers=TOKEN)
    assert answer.status_code == 411
    assert api.repo_exists(REPO)


def test_a_restart_keeps_everything(folder):
    """Branches, tags, pull requests, files and history."""
    with local_hub(folder) as hub:
        api = client(hub)
        api.create_repo(REPO, private=True)
        one = commit(api, README_md=b"one", w_safetensors=b"weights")
        api.create_tag(REPO, tag="v1", revision=one.oid)
        pull = api.create_pull_request(REPO, "to come")
        refs = api.list_repo_refs(REPO, include_pull_requests=True)
    with local_hub(folder) as hub:
        api = client(hub)
        assert api.list_repo_refs(REPO, include_pull_requests=True) == refs
        assert api.repo_info(REPO).private
        assert [found.title for found in api.list_repo_commits(REPO)] == ["some files", "initial commit"]
        assert api.get_discussion_details(REPO, pull.num).title == "to come"
        assert get_session().get(f"{hub.url}/{REPO}/resolve/v1/README.md", headers=TOKEN).content == b"one"
        assert paths(api, "v1") == ["README.md", "w.safetensors"]


def test_the_models_of_an_author_are_listed_page_by_page(hub, api):
    """With the names of their files; private ones only to who has a token; an author is no way out of the folder."""
    for n in range(4):
        api.create_repo(f"org/model-{n}", private=n == 3)
    commit(api, README_md=b"a card")
    listed = {model.id: model for model in api.list_models(author="org", expand=["siblings"])}
    assert list(listed) == [*(f"org/model-{n}" for n in range(4)), REPO]
    assert {file.rfilename for file in listed[REPO].siblings} == {".gitattributes", "README.md"}
    assert "org/model-3" not in {model.id for model in client(hub, False).list_models(author="org")}
    for author in ("nobody", "..", "../models", "../../../hub", "."):
        assert list(api.list_models(author=author)) == []
