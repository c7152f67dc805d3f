package authz

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	authzv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/authz/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
)

// oneMethod describes a service with one method that carries the rule. Its request has the fields name, tags (repeated),
// size (a number) and chapter (a message with a name).
func oneMethod(t *testing.T, rule *authzv1.Rule) protoreflect.ServiceDescriptor {
	t.Helper()
	options := &descriptorpb.MethodOptions{}
	if rule != nil {
		proto.SetExtension(options, authzv1.E_Rule, rule)
	}
	text, number, message := descriptorpb.FieldDescriptorProto_TYPE_STRING, descriptorpb.FieldDescriptorProto_TYPE_INT32, descriptorpb.FieldDescriptorProto_TYPE_MESSAGE
	one, many := descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL, descriptorpb.FieldDescriptorProto_LABEL_REPEATED
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("test.proto"), Package: proto.String("test"), Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{
			{Name: proto.String("Request"), Field: []*descriptorpb.FieldDescriptorProto{
				{Name: proto.String("name"), Number: proto.Int32(1), Type: &text, Label: &one},
				{Name: proto.String("tags"), Number: proto.Int32(2), Type: &text, Label: &many},
				{Name: proto.String("size"), Number: proto.Int32(3), Type: &number, Label: &one},
				{Name: proto.String("chapter"), Number: proto.Int32(4), Type: &message, Label: &one, TypeName: proto.String(".test.Chapter")},
			}},
			{Name: proto.String("Chapter"), Field: []*descriptorpb.FieldDescriptorProto{
				{Name: proto.String("name"), Number: proto.Int32(1), Type: &text, Label: &one},
			}},
		},
		Service: []*descriptorpb.ServiceDescriptorProto{{
			Name: proto.String("Service"), Method: []*descriptorpb.MethodDescriptorProto{{
				Name: proto.String("Do"), InputType: proto.String(".test.Request"), OutputType: proto.String(".test.Request"), Options: options,
			}},
		}},
	}, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	return file.Services().Get(0)
}

func permission(name, scopeField string) *authzv1.Rule {
	return &authzv1.Rule{Access: &authzv1.Rule_Permission{Permission: name}, ScopeField: scopeField}
}

func TestRulesRefuse(t *testing.T) {
	t.Parallel()
	for name, rule := range map[string]*authzv1.Rule{
		"NoRule":                     nil,
		"EmptyRule":                  {},
		"EmptyPermission":            permission("", "name"),
		"NotAuthenticated":           {Access: &authzv1.Rule_Authenticated{}},
		"NotPublic":                  {Access: &authzv1.Rule_Public{}},
		"UnknownPermission":          permission("charters.aprove", "name"),
		"FieldThatIsNotThere":        permission("charters.approve", "title"),
		"FieldBelowNoMessage":        permission("charters.approve", "name.id"),
		"FieldThatIsRepeated":        permission("charters.approve", "tags"),
		"FieldThatIsANumber":         permission("charters.approve", "size"),
		"FieldThatIsAMessage":        permission("charters.approve", "chapter"),
		"FieldNobodyChecks":          {Access: &authzv1.Rule_Authenticated{Authenticated: true}, ScopeField: "name"},
		"NobodyHoldsItOnFederation":  permission("entries.read", ""),
		"FieldOfAMessageThatIsEmpty": permission("charters.approve", "chapter."),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := NewRules(oneMethod(t, rule)); err == nil || !strings.Contains(err.Error(), "test.Service.Do: ") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestRulesNameEveryFault(t *testing.T) {
	t.Parallel()
	_, err := NewRules(oneMethod(t, nil), oneMethod(t, permission("charters.aprove", "")), oneMethod(t, permission("charters.read", "")))
	if err == nil || strings.Count(err.Error(), "test.Service.Do") != 2 {
		t.Errorf("got %v", err)
	}
}

func TestRuleFindsTheResource(t *testing.T) {
	t.Parallel()
	rules, err := NewRules(localv1.File_chapterhouse_local_v1_syncs_proto.Services().Get(0))
	if err != nil {
		t.Fatal(err)
	}
	rule, ok := rules.Of(localv1.SyncService_CreateSync_FullMethodName)
	if !ok {
		t.Fatal("no rule")
	}
	header := &localv1.CreateSyncRequest{Part: &localv1.CreateSyncRequest_Header{
		Header: &localv1.CreateSyncHeader{Parent: "chapters/golang-paris/lists/members"},
	}}
	if got := rule.Resource(header); got != "chapters/golang-paris/lists/members" {
		t.Errorf("header: got %q", got)
	}
	for _, without := range []proto.Message{nil, &localv1.CreateSyncRequest{}} {
		if got := rule.Resource(without); got != "" {
			t.Errorf("%v: got %q", without, got)
		}
	}
	if _, ok := rules.Of("/chapterhouse.local.v1.SyncService/Unheard"); ok {
		t.Error("a method that does not exist has a rule")
	}
	if health, ok := rules.Of("/grpc.health.v1.Health/Check"); !ok || !health.Public {
		t.Error("health is not public")
	}
}

// platformServices are those of all files in the packages of the three tiers.
func platformServices() []protoreflect.ServiceDescriptor {
	var services []protoreflect.ServiceDescriptor
	for _, tier := range []protoreflect.FileDescriptor{
		internationalv1.File_chapterhouse_international_v1_members_proto,
		regionalv1.File_chapterhouse_regional_v1_regions_proto,
		localv1.File_chapterhouse_local_v1_chapters_proto,
	} {
		protoregistry.GlobalFiles.RangeFilesByPackage(tier.Package(), func(file protoreflect.FileDescriptor) bool {
			for i := range file.Services().Len() {
				services = append(services, file.Services().Get(i))
			}
			return true
		})
	}
	slices.SortFunc(services, func(a, b protoreflect.ServiceDescriptor) int {
		return strings.Compare(string(a.FullName()), string(b.FullName()))
	})
	return services
}
